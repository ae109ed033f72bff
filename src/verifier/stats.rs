//! The last lines of the log: `print_verification_stats`.

use super::Verifier;
use super::input::Stats;
use super::log::BPF_LOG_STATS;
use crate::verbose;

/// Instructions that a verification may process: `BPF_COMPLEXITY_LIMIT_INSNS`.
pub const BPF_COMPLEXITY_LIMIT_INSNS: u32 = 1_000_000;

impl Verifier {
    /// `verified`: the program was rewritten, which takes subprograms away and stack space more.
    pub fn print_verification_stats(&mut self, stats: &Stats, verified: bool) {
        if self.log.level & BPF_LOG_STATS != 0 {
            verbose!(self, "verification time {} usec\n", stats.verification_time / 1000);
            verbose!(self, "stack depth ");
            let depths = if verified {
                self.rewritten_stack_depths()
            } else {
                self.subprog_info[..self.subprog_cnt].iter().map(|subprog| subprog.stack_depth).collect()
            };
            for (i, depth) in depths.iter().enumerate() {
                let plus = if i + 1 < depths.len() { "+" } else { "" };
                verbose!(self, "{depth}{plus}");
            }
            verbose!(self, "\n");
        }
        verbose!(
            self,
            "processed {} insns (limit {BPF_COMPLEXITY_LIMIT_INSNS}) max_states_per_insn {} total_states {} peak_states {} \
             mark_read {}\n",
            stats.insn_processed,
            stats.max_states_per_insn,
            stats.total_states,
            stats.peak_states,
            stats.longest_mark_read
        );
    }
}
