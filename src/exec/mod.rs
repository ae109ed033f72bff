//! A concrete evaluator of BPF programs in which every memory access is checked: an independent judge of the verifier, with no part
//! of its states. What it finds to be a bad access is one in the kernel too; a verified program makes none, whatever its inputs.
//!
//! ```text
//! let program = Program::new(&outcome);                     // once, from what bpf_check leaves, accepted or rejected
//! let mut inputs = TableInputs::new(table, Zeros);          // or RandomInputs, or any other `Inputs`
//! let mut machine = Machine::new(&program, &mut inputs);    // one run
//! let stop = machine.run(1_000_000);                        // or `step` by step, or `follow` a path
//! ```
//!
//! **Values** have 64 bits and a provenance: a pointer knows the region that it is into, wherever its address goes. An access is
//! good if it lies inside of the region of its pointer, the region still exists, and the access is one that the region allows
//! (the context's fields are judged by the program type). Regions are frames of the stack, the context, packets, values of maps,
//! memory from helpers, sockets; see [`RegionKind`]. Memory of the kernel behind pointers with a BTF type can be read anywhere.
//!
//! **Inputs** are all values that the program does not compute: contents of memory that nobody wrote, sizes of packets, results
//! and outputs of helpers, the outcome of tail calls. Each is asked for once, when it is first needed, by its [`Origin`]; memory
//! is made of bytes, so that later reads of the same memory agree. [`TableInputs`] answers from a table by origin, and from another
//! source where the table has nothing; it records what was asked, which is also how to learn the origins along a path.
//!
//! **Helpers** are known by their prototypes alone: memory arguments are checked (size and offset), what they write is asked
//! for when it is read, what they return is asked for within the range that the verifier assumes. Lookups in maps find the same
//! value for the same key; updates are seen by later lookups.
//!
//! **Paths**: [`Machine::follow`] runs along a list of instructions as the verifier walks them, and says where a run leaves it.
//! [`Machine::step`] with [`Machine::pc`] and [`Machine::regs`] shows every state on the way.
//!
//! **Where values come from**: a value remembers how it was computed from answers. [`Machine::answers_of`] tells which ones it depends
//! on; [`Machine::solve`] which answers would make it another one, [`Machine::flips`] which ones may send jumps the other way, both by undoing
//! one operation after another: a proposal, to be tried. [`Search`] does so, run after run, to get where none was before.
//!
//! Not here: kernel functions (kfuncs), dynptrs, arenas, exceptions, callbacks that run later (timers). They end the run with
//! [`Stop::Unsupported`].

mod access;
mod alu;
mod calls;
mod context;
mod helpers;
mod inputs;
mod machine;
mod maps;
mod memory;
mod program;
mod random;
mod search;
mod stop;
mod terms;
#[cfg(test)]
mod tests;

pub use inputs::{At, Inputs, Origin, Range, TableInputs, Zeros};
pub use machine::{Machine, NOT_TAKEN, TAKEN};
pub use memory::{KERNEL, RegionId, RegionKind, Value};
pub use program::Program;
pub use random::RandomInputs;
pub use search::Search;
pub use stop::{BadAccess, Stop, Wrong};
pub use terms::{Change, TermId};
