//! Strongly connected components of the control flow graph: `compute_scc`.
//!
//! Tarjan's algorithm in the form of Pearce ("A Space-Efficient Algorithm for Finding Strongly Connected Components",
//! algorithm 3), without recursion. Each instruction of a loop gets the number of its component, in the order in which
//! components complete; instructions outside of loops get zero.

use super::cfg::bpf_insn_successors;
use super::{Result, Verifier};

/// `low` of a node whose component is complete.
const NOT_ON_STACK: u32 = u32::MAX;

impl Verifier {
    /// Numbers the components in [`InsnAux::scc`](super::insn_aux::InsnAux::scc), from one.
    pub fn compute_scc(&mut self) -> Result<()> {
        let insns = &self.prog.insns;
        let mut pre = vec![0u32; insns.len()];
        let mut low = vec![0u32; insns.len()];
        let mut stack: Vec<u32> = Vec::new();
        let mut dfs: Vec<u32> = Vec::new();
        let mut next_preorder_num = 1;
        let mut next_scc_id = 1;
        for root in 0..insns.len() as u32 {
            if pre[root as usize] != 0 {
                continue;
            }
            dfs.push(root);
            while let Some(&node) = dfs.last() {
                let w = node as usize;
                if pre[w] == 0 {
                    low[w] = next_preorder_num;
                    pre[w] = next_preorder_num;
                    next_preorder_num += 1;
                    stack.push(node);
                }
                let (successors, count) = bpf_insn_successors(insns, node);
                let successors = &successors[..count];
                let mut unvisited = None;
                for &s in successors {
                    if pre[s as usize] == 0 {
                        unvisited = Some(s);
                        break;
                    }
                    low[w] = low[w].min(low[s as usize]);
                }
                if let Some(s) = unvisited {
                    dfs.push(s);
                    continue;
                }
                dfs.pop();
                // Some node further down the stack is reachable from here: it is the component's root, or below it.
                if low[w] < pre[w] {
                    continue;
                }
                let in_loop = stack.last() != Some(&node) || successors.contains(&node);
                while let Some(t) = stack.pop() {
                    low[t as usize] = NOT_ON_STACK;
                    if in_loop {
                        self.insn_aux[t as usize].scc = next_scc_id;
                    }
                    if t == node {
                        break;
                    }
                }
                next_scc_id += u32::from(in_loop);
            }
        }
        self.scc_cnt = next_scc_id;
        Ok(())
    }
}
