//! Known rejections: what the kernel's message means, and what to do about it.
//!
//! The table is searched from its top; `*` in a pattern stands for any text, also none. A pattern has to match a whole message.

/// What has to happen in a run for the rejection to be more than caution.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    /// The rejected instruction accesses memory that it must not.
    Access,
    /// That, or a later instruction accesses such memory with what this one computes.
    Later,
    /// It is enough that the program gets there.
    Reached,
    /// A rule of the kernel that has nothing to do with values.
    Rule,
}

/// A rejection that is known.
#[derive(Debug)]
pub struct Known {
    /// The kernel's message, without its end of line.
    pub pattern: &'static str,
    pub fault: Fault,
    pub meaning: &'static str,
    pub advice: &'static str,
}

/// The entry for a message.
pub fn look_up(message: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|known| matches(known.pattern, message))
}

fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    let Some(mut rest) = rest.strip_suffix(last) else { return false };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

use Fault::{Access, Later, Reached, Rule};

const fn known(pattern: &'static str, fault: Fault, meaning: &'static str, advice: &'static str) -> Known {
    Known { pattern, fault, meaning, advice }
}

const NULL_CHECK: &str = "Compare the pointer with NULL and leave on the NULL side before this line. The check has to be on the same value: \
     one on a copy from another lookup does not count.";
const PACKET_CHECK: &str = "Compare the end of what is accessed with data_end just before: if (ptr + sizeof(*ptr) > data_end) return; with ptr the \
     very pointer that is accessed. Helpers that may change the packet invalidate earlier checks: load data and data_end again.";
const BOUND_INDEX: &str = "Limit the index right before the access, in an unsigned variable: if (i >= LEN) return; or, where LEN is a power of two, \
     i &= LEN - 1. If the compiler keeps the check on another copy of the value, barrier_var(i) between check and use ties them.";
const BOUND_SIZE: &str = "Limit the size right before the call, in an unsigned variable: if (size > MAX) return; or size &= MAX with MAX = 2^n - 1. \
     A result of a helper is negative on error: test that first.";
const RELEASE: &str = "Release it on every way out, error paths too: bpf_sk_release() for sockets, bpf_ringbuf_submit() or \
     bpf_ringbuf_discard() for records, the release function for kernel objects.";
const CTX_CONST: &str = "Access the context by its fields with constant offsets (ctx->field). Where the compiler computes &ctx->field first, copy \
     the fields to locals, or mark the context __arg_ctx in functions that are not inlined.";

/// From the most to the least special.
pub static KNOWN: &[Known] = &[
    // Pointers that may be null, or are no pointers.
    known("R* invalid mem access '*_or_null'", Access, "The pointer may be NULL here.", NULL_CHECK),
    known(
        "R* pointer arithmetic on *_or_null prohibited, null-check it first",
        Reached,
        "The pointer may be NULL here.",
        NULL_CHECK,
    ),
    known(
        "Possibly NULL pointer passed to helper arg*",
        Reached,
        "The argument may be NULL, and the helper takes none.",
        NULL_CHECK,
    ),
    known(
        "Possibly NULL pointer passed to trusted arg*",
        Reached,
        "The argument may be NULL, and the function takes none.",
        NULL_CHECK,
    ),
    known(
        "R* invalid mem access 'scalar'",
        Access,
        "The address is a number to the verifier: it never was a pointer, or stopped being one when it was computed with, spilled in parts or \
         read from memory.",
        "Read kernel or user memory with bpf_probe_read_kernel() or bpf_probe_read_user() (BPF_CORE_READ() for structures). If the number was \
         a pointer once, keep it in a pointer variable: no arithmetic but addition, no store in narrower pieces.",
    ),
    known(
        "R* invalid mem access 'map_ptr'",
        Reached,
        "The map itself is accessed, not a value of it.",
        "Get a pointer to a value with bpf_map_lookup_elem(), and check it for NULL.",
    ),
    known(
        "R* invalid mem access '*'",
        Access,
        "Memory behind a pointer of this type cannot be accessed directly.",
        "Get a pointer of a kind that can be: a map value, packet data within checked bounds, the stack; or read with bpf_probe_read_kernel().",
    ),
    // Registers.
    known(
        "R0 !read_ok",
        Reached,
        "The program returns, or uses the result of something, without a value: R0 was never written on this path, or a call without result \
         came in between.",
        "Return a value on every path, and initialise variables where they are declared.",
    ),
    known(
        "R* !read_ok",
        Reached,
        "The register has no value on this path. Calls leave R1 to R5 without one; a variable that is set on one branch alone has none on the \
         other.",
        "Initialise the variable where it is declared; in assembly, save what a call destroys in R6 to R9 or on the stack. Where the path to \
         here cannot be taken, the compiler knew more than the verifier: make the two conditions one.",
    ),
    known(
        "frame pointer is read only",
        Rule,
        "R10 is written to.",
        "Copy R10 to another register and compute with the copy.",
    ),
    known("R* is invalid", Rule, "The instruction names a register that there is not.", "Use R0 to R10."),
    // The packet.
    known(
        "R* offset is outside of the packet",
        Access,
        "The access goes beyond the part of the packet that was compared with data_end on this path.",
        PACKET_CHECK,
    ),
    known(
        "invalid access to packet, off=*",
        Access,
        "The access goes beyond the part of the packet that was compared with data_end on this path.",
        PACKET_CHECK,
    ),
    known(
        "cannot write into packet",
        Reached,
        "Programs of this type only read packets.",
        "Use a program type that may write (XDP, tc), or a helper such as bpf_skb_store_bytes() where the type has it.",
    ),
    known(
        "the prog does not allow writes to packet data",
        Reached,
        "Programs of this type only read packets.",
        "Use a program type that may write (XDP, tc).",
    ),
    known(
        "helper access to the packet is not allowed",
        Reached,
        "This helper takes no packet memory.",
        "Copy the bytes to the stack first, within checked bounds, and pass that.",
    ),
    // Bounds of memory.
    known(
        "R* min value is negative, either use unsigned index or do a if (index >=0) check.",
        Access,
        "The index may be negative.",
        BOUND_INDEX,
    ),
    known(
        "R* min value is negative, either use unsigned or 'var &= const'",
        Access,
        "The size may be negative.",
        BOUND_SIZE,
    ),
    known(
        "R* unbounded memory access, make sure to bounds check any such access",
        Access,
        "Nothing on this path limits the index.",
        BOUND_INDEX,
    ),
    known(
        "R* unbounded memory access, use 'var &= const' or 'if (var < const)'",
        Access,
        "Nothing on this path limits the size.",
        BOUND_SIZE,
    ),
    known(
        "R* max value is outside of the allowed memory range",
        Access,
        "The largest possible offset is behind the memory's end.",
        BOUND_INDEX,
    ),
    known(
        "R* min value is outside of the allowed memory range",
        Access,
        "The smallest possible offset is before the memory's start, or behind its end.",
        BOUND_INDEX,
    ),
    known(
        "invalid access to map value, value_size=* off=* size=0",
        Access,
        "The size may be zero, or the pointer is outside of the value.",
        BOUND_SIZE,
    ),
    known(
        "invalid access to map value, value_size=* off=* size=*",
        Access,
        "The access is not inside of the map's value.",
        "Compare offset and size with the value's type. Where the index varies, limit it right before the access; where the size is passed to a \
         helper, limit it to what is left behind the pointer.",
    ),
    known(
        "invalid access to map key, *",
        Access,
        "The access is not inside of the map's key.",
        "Compare offset and size with the key's type.",
    ),
    known(
        "invalid access to memory, mem_size=*",
        Access,
        "The access is not inside of the memory.",
        BOUND_INDEX,
    ),
    known(
        "invalid access to flow keys *",
        Access,
        "The access is not inside of struct bpf_flow_keys.",
        "Compare offset and size with the structure.",
    ),
    known("R* invalid * buffer access: *", Access, "The access is not inside of the buffer.", BOUND_INDEX),
    known(
        "R* invalid variable buffer offset: *",
        Reached,
        "Buffers of this kind are accessed at constant offsets only.",
        "Unroll the loop, or copy through a helper.",
    ),
    known(
        "R* invalid zero-sized read: *",
        Access,
        "The size may be zero, and the helper takes no size of zero.",
        "Test the size for zero first: if (!size) return;",
    ),
    known("invalid zero-sized read", Access, "The size is zero.", "Pass the size of the memory."),
    known(
        "R* invalid * access off=*",
        Rule,
        "The structure has no field there that programs may access.",
        "Compare the offset with the structure's fields.",
    ),
    known(
        "write into map forbidden*",
        Reached,
        "The map is read-only to programs (BPF_F_RDONLY_PROG, .rodata).",
        "Write to a map without this flag; variables that change must not be const.",
    ),
    known(
        "read from map forbidden*",
        Reached,
        "The map is write-only to programs (BPF_F_WRONLY_PROG).",
        "Read from a map without this flag.",
    ),
    known(
        "write to change key R* not allowed",
        Reached,
        "Keys are read-only to callbacks.",
        "Copy the key first.",
    ),
    known(
        "R* cannot write into *",
        Reached,
        "The memory is read-only to programs.",
        "Write to a copy, or use the helper that changes it.",
    ),
    // Arithmetic on pointers.
    known(
        "math between * pointer and register with unbounded min value is not allowed",
        Later,
        "An offset that may be any negative number is added to a pointer.",
        "Limit the offset before it is added, as an unsigned number: if (off > MAX) return; Where off is a difference or a result of a helper, test \
         for negative values first.",
    ),
    known(
        "math between * pointer and * is not allowed",
        Later,
        "An offset this large is never inside of the memory.",
        "Check how the offset is computed.",
    ),
    known(
        "value * makes * pointer be out of bounds",
        Later,
        "The pointer would be too far out of its memory.",
        "Limit the offset before it is added.",
    ),
    known(
        "* pointer offset * is not allowed",
        Later,
        "The pointer would be too far out of its memory.",
        "Limit the offset before it is added.",
    ),
    known(
        "R* pointer arithmetic on PTR_TO_MAP_VALUE_OR_NULL prohibited, null-check it first",
        Reached,
        "The pointer may be NULL here.",
        NULL_CHECK,
    ),
    known(
        "R* pointer arithmetic on pkt_end prohibited",
        Reached,
        "data_end is for comparisons only.",
        "Compute with data, and compare the result with data_end.",
    ),
    known(
        "R* pointer arithmetic on ctx prohibited",
        Reached,
        "The context is accessed at constant offsets.",
        CTX_CONST,
    ),
    known(
        "R* pointer arithmetic on * prohibited*",
        Reached,
        "Nothing can be added to a pointer of this type.",
        "Use the pointer as it is; copy what it points to first if parts of it are needed.",
    ),
    known(
        "R* pointer arithmetic with * operator prohibited",
        Reached,
        "Pointers can be added to and subtracted from, nothing else.",
        "Compute the offset as a number, and add it to the pointer.",
    ),
    known(
        "R* bitwise operator * on pointer prohibited",
        Reached,
        "Pointers can be added to and subtracted from, nothing else.",
        "Compute the offset as a number, mask that, and add it to the pointer.",
    ),
    known(
        "R* 32-bit pointer arithmetic prohibited",
        Reached,
        "A pointer has 64 bits, the operation 32.",
        "Keep pointers in pointer or 64-bit variables.",
    ),
    known(
        "R* pointer += pointer prohibited",
        Reached,
        "Two pointers are added.",
        "Add an offset to one of them. The verifier may take a number for a pointer that was read from where one was stored.",
    ),
    known(
        "R* pointer * pointer prohibited",
        Reached,
        "Two pointers are computed with.",
        "Subtract pointers into the same packet only; elsewhere keep the offset as a number.",
    ),
    known(
        "R* tried to subtract pointer from scalar",
        Reached,
        "A pointer is subtracted from a number.",
        "Turn the operands round.",
    ),
    known(
        "R* subtraction from stack pointer prohibited",
        Reached,
        "A variable is subtracted from a stack pointer.",
        "Use an array and an index that is limited.",
    ),
    known(
        "R* pointer comparison prohibited",
        Reached,
        "Pointers of these types cannot be compared.",
        "Compare packet pointers with data_end, and other pointers with NULL.",
    ),
    known(
        "R* sign-extension part of pointer",
        Reached,
        "A pointer is narrowed.",
        "Keep pointers in pointer or 64-bit variables.",
    ),
    known(
        "R* partial copy of pointer",
        Reached,
        "A pointer is narrowed.",
        "Keep pointers in pointer or 64-bit variables.",
    ),
    // The stack.
    known(
        "invalid size of register spill",
        Rule,
        "A pointer or number with all its 64 bits is stored in less, or one that is narrower than the store.",
        "Store pointers as 64-bit values. Compiled code does this when the stack runs short or functions pass structures by value: inline the \
         function (__always_inline), or use a newer compiler or -O2.",
    ),
    known(
        "invalid size of register fill",
        Rule,
        "A spilled pointer is read in part.",
        "Read pointers back with all their 64 bits.",
    ),
    known(
        "attempt to corrupt spilled pointer on stack",
        Rule,
        "A part of a pointer on the stack is overwritten.",
        "Use another slot; overwrite the pointer as a whole.",
    ),
    known(
        "leaking pointer from stack off *",
        Rule,
        "A pointer on the stack would be read as a number.",
        "Copy it as a pointer.",
    ),
    known(
        "invalid read from stack *",
        Access,
        "Bytes of the stack are read that nothing was written to, or that are outside of the frame.",
        "Initialise the variable as a whole: = {} or __builtin_memset(&var, 0, sizeof(var)), which also covers padding.",
    ),
    known(
        "invalid indirect read from stack *",
        Access,
        "A helper would read bytes of the stack that nothing was written to: often padding of a structure that is a key or value.",
        "Initialise the variable as a whole: __builtin_memset(&var, 0, sizeof(var)), which also covers padding.",
    ),
    known(
        "invalid variable-offset* stack R*",
        Access,
        "The offset into the stack is not limited to the frame.",
        BOUND_INDEX,
    ),
    known(
        "invalid unbounded variable-offset* stack R*",
        Access,
        "Nothing on this path limits the offset into the stack.",
        BOUND_INDEX,
    ),
    known(
        "invalid* stack R* off=* size=*",
        Access,
        "The access is outside of the 512 bytes of the stack frame, or above it.",
        "Check the offset, and that the variable is as large as what is accessed.",
    ),
    known(
        "R* variable * stack access prohibited for !root*",
        Rule,
        "Loaders without CAP_PERFMON access the stack at constant offsets.",
        "Load with CAP_BPF and CAP_PERFMON, or unroll.",
    ),
    known(
        "R* stack pointer arithmetic goes out of range, *",
        Rule,
        "Loaders without CAP_PERFMON keep stack pointers inside of the frame.",
        "Load with CAP_BPF and CAP_PERFMON, or limit the offset.",
    ),
    known(
        "cannot return stack pointer to the caller",
        Reached,
        "A function returns the address of its own variable.",
        "Let the caller pass the memory.",
    ),
    known(
        "cannot spill pointers to stack into stack frame of the caller",
        Reached,
        "A function stores the address of its own variable in its caller's.",
        "Let the caller pass the memory.",
    ),
    known(
        "combined stack size of * calls is *. Too large",
        Rule,
        "All frames of a call chain together have 512 bytes.",
        "Move large variables into a per-CPU array of one element; call less deeply.",
    ),
    known(
        "stack size of subprog * is *. Too large",
        Rule,
        "A frame has 512 bytes.",
        "Move large variables into a per-CPU array of one element.",
    ),
    known(
        "tail_calls are not allowed when call stack of previous frames is *",
        Rule,
        "Before a tail call from a function, frames may have 256 bytes.",
        "Move large variables into a per-CPU array of one element.",
    ),
    // The context.
    known(
        "invalid bpf_context access off=*",
        Rule,
        "The context of this program type has no such field, not for this size, or not for writing.",
        "Compare the field with the type's list in the kernel's documentation. For other attach types it may be there: check the section name. In a \
         tracepoint, compare the structure with its format file.",
    ),
    known(
        "dereference of modified ctx ptr R* off=* disallowed",
        Reached,
        "The context is accessed at constant offsets from its start.",
        CTX_CONST,
    ),
    known(
        "dereference of modified * ptr R* off=* disallowed",
        Reached,
        "The pointer is accessed, or passed on, at its start only.",
        "Pass the pointer as it was; copy what is needed from behind it.",
    ),
    known(
        "negative offset * ptr R* off=* disallowed",
        Reached,
        "The access is in front of the object.",
        "Check how the pointer is computed; container_of() is not possible here.",
    ),
    known(
        "variable * access var_off=* disallowed",
        Reached,
        "The object is accessed at constant offsets only.",
        CTX_CONST,
    ),
    known(
        "* access cannot have variable offset",
        Reached,
        "The object is accessed at constant offsets only.",
        "Use constant offsets.",
    ),
    known(
        "same insn cannot be used with different pointers",
        Reached,
        "One instruction accesses the context on one path and other memory on another.",
        "Keep the compiler from merging the branches: barrier_var() or asm volatile(\"\") in one of them.",
    ),
    // Pointers that must not get out.
    known(
        "R* leaks addr *",
        Rule,
        "An address of the kernel would be visible to user space, which takes CAP_PERFMON.",
        "Store numbers, not pointers; or load with CAP_PERFMON.",
    ),
    // What a program returns.
    known(
        "At program exit the register R* has *should have been in [*]",
        Reached,
        "The return value is not one that this program type may return.",
        "Return one of the values that the type knows, on every path. Results of helpers are any number: map them.",
    ),
    known(
        "*the register R* has *should have been in [*]",
        Reached,
        "The return value is not one that is allowed here.",
        "Return one of the values that are allowed, on every path.",
    ),
    known("At * the register R* is not a *", Reached, "What is returned is a pointer.", "Return a number."),
    known("R0 not a scalar value", Reached, "What is returned is a pointer.", "Return a number."),
    // Types of arguments.
    known(
        "R* type=* expected=*",
        Reached,
        "The helper takes a pointer to other memory, or the verifier takes the argument for a number.",
        "Pass what the helper's prototype wants. If the argument is the result of a lookup, check it for NULL first; if it is a number that was a \
         pointer once, keep it in a pointer variable; kernel memory has to be copied to the stack.",
    ),
    known(
        "R* is of type * but * is expected",
        Reached,
        "The pointer is to an object of another type.",
        "Pass a pointer of this type; CO-RE does not change types of pointers.",
    ),
    known(
        "R* must be referenced when passed to release function",
        Reached,
        "What is released was not acquired, or is released for a second time.",
        "Release exactly once what the acquiring call returned.",
    ),
    known(
        "arg * is an unacquired reference",
        Reached,
        "What is released was not acquired, or is released for a second time.",
        "Release exactly once what the acquiring call returned.",
    ),
    known(
        "func *#* reference has not been acquired before",
        Reached,
        "What is released was not acquired, or is released for a second time.",
        "Release exactly once what the acquiring call returned.",
    ),
    known(
        "R* must be a known constant",
        Reached,
        "The argument has to be a constant.",
        "Pass a literal; a variable that is constant at run time has to be const volatile in .rodata, or the code unrolled.",
    ),
    known("R* is not a known constant'", Reached, "The argument has to be a constant.", "Pass a literal."),
    known(
        "R* does not point to a readonly map'",
        Reached,
        "The string has to be in a read-only, frozen map.",
        "Declare it static const char[] (it goes to .rodata).",
    ),
    known(
        "R* doesn't have constant offset. *",
        Reached,
        "The field has to be at a constant offset.",
        "Access it through a pointer to its structure, without index.",
    ),
    known(
        "R* must have zero offset when passed to release func*",
        Reached,
        "What is released has to be the pointer that was acquired.",
        "Keep the acquired pointer, and pass that.",
    ),
    known(
        "variable offset stack pointer cannot be passed into helper function; *",
        Reached,
        "The helper takes a stack pointer at a constant offset.",
        "Copy to a variable, and pass that.",
    ),
    // Helpers.
    known(
        "program of this type cannot use helper *",
        Rule,
        "The kernel has the helper, but not for this program type (or attach type).",
        "Compare with the program types in bpf-helpers(7). Where the program's section name is generic, the type that is meant may be another one.",
    ),
    known(
        "invalid func *#*",
        Rule,
        "The kernel does not know a helper of this number.",
        "It may be newer than this kernel: test for it with bpf_core_enum_value_exists(enum bpf_func_id, …) and have a way without it.",
    ),
    known(
        "unknown func *#*",
        Rule,
        "The helper is not there for this program: wrong program type, missing capability, or a kernel without it.",
        "Compare with the program types in bpf-helpers(7), and with the loader's capabilities.",
    ),
    known(
        "cannot call GPL-restricted function from non-GPL compatible program",
        Rule,
        "The helper is for programs with a GPL-compatible license.",
        "char LICENSE[] SEC(\"license\") = \"GPL\"; if the program may have it.",
    ),
    known(
        "cannot call kernel function from non-GPL compatible program",
        Rule,
        "Kernel functions are for programs with a GPL-compatible license.",
        "char LICENSE[] SEC(\"license\") = \"GPL\"; if the program may have it.",
    ),
    known(
        "helper call is not allowed in probe",
        Rule,
        "The helper needs a program type with known context.",
        "Use another program type.",
    ),
    known(
        "helper call might sleep in a non-sleepable prog",
        Rule,
        "The helper may sleep, the program must not.",
        "Make the program sleepable (SEC(\"fentry.s/…\"), SEC(\"lsm.s/…\")), or use the variant that does not sleep.",
    ),
    known(
        "sleepable helper * in * region",
        Reached,
        "The helper may sleep, which is not possible here.",
        "Call it before the region begins, or after its end.",
    ),
    known(
        "cannot pass map_type * into func *",
        Rule,
        "The helper does not work on maps of this type.",
        "Use the helper for the type, or another type of map.",
    ),
    known(
        "pointer in R* isn't map pointer",
        Reached,
        "The map argument is not a map.",
        "Pass &map itself; maps from maps of maps have to be looked up and checked for NULL.",
    ),
    known(
        "tail_call abusing map_ptr",
        Reached,
        "The map of a tail call differs between paths.",
        "Use one map for each call instruction.",
    ),
    known(
        "expected prog array map for tail call*",
        Rule,
        "Tail calls take a BPF_MAP_TYPE_PROG_ARRAY.",
        "Use one.",
    ),
    known(
        "tail_call is only allowed in functions that return 'int'.",
        Rule,
        "A function with a tail call has to return int.",
        "Change its type.",
    ),
    // References and locks.
    known(
        "Unreleased reference id=* alloc_insn=*",
        Reached,
        "What was acquired is not released on this path.",
        RELEASE,
    ),
    known("* would lead to reference leak", Reached, "Something acquired is still held here.", RELEASE),
    known(
        "function calls are not allowed while holding a lock",
        Reached,
        "No calls between bpf_spin_lock() and bpf_spin_unlock().",
        "Do the call before the lock, or after the unlock.",
    ),
    known(
        "global function calls are not allowed while holding a lock*",
        Reached,
        "No calls of global functions under a lock.",
        "Make the function static.",
    ),
    known(
        "* cannot be used inside bpf_*-ed region",
        Reached,
        "A lock or a section is still held here.",
        "Unlock on every path before.",
    ),
    known(
        "*_unlock without taking a lock",
        Reached,
        "The lock is not held on this path.",
        "Lock and unlock on the same paths.",
    ),
    known("*_unlock of different lock", Reached, "Another lock is held.", "Unlock what was locked."),
    known(
        "Locking two bpf_spin_locks are not allowed",
        Reached,
        "One lock is held already.",
        "Unlock it first.",
    ),
    known(
        "map '*' has no valid *",
        Rule,
        "The value's type has no field for this.",
        "Add a struct bpf_spin_lock, bpf_timer, … to the value's type, at its own alignment.",
    ),
    known(
        "map '*' has to have BTF in order to use *",
        Rule,
        "The map was created without types.",
        "Declare it in a .maps section with __type(value, …).",
    ),
    // Size and shape of programs.
    known(
        "BPF program is too large. Processed * insn",
        Rule,
        "The verifier walked a million instructions, over all paths.",
        "Fewer paths: bpf_loop() or bpf_for() instead of unrolled or bounded loops, global functions (each verified once) for parts, masks instead \
         of branches; or tail calls.",
    ),
    known(
        "The sequence of * jumps is too complex.",
        Rule,
        "Too many branches wait to be walked.",
        "Fewer branches in a row: a table, a loop with bpf_loop(), or a global function.",
    ),
    known(
        "infinite loop detected at insn *",
        Reached,
        "The loop came round with nothing that the verifier knows changed.",
        "Count in a variable that the exit condition tests, with a constant limit; or use bpf_loop(), bpf_for().",
    ),
    known(
        "back-edge from insn * to *",
        Rule,
        "Loops are not for loaders without CAP_BPF.",
        "Load with CAP_BPF, or unroll.",
    ),
    known(
        "unreachable insn *",
        Rule,
        "No path leads to this instruction.",
        "Remove it. Compilers leave none; hand-written code does.",
    ),
    known("jump out of range from insn * to *", Rule, "The jump leaves its function.", "Check the offset."),
    known(
        "last insn is not an exit or jmp",
        Rule,
        "The function runs on into the next.",
        "End it with exit.",
    ),
    known(
        "the call stack of * frames is too deep*",
        Rule,
        "Functions call eight deep at most.",
        "Inline some, or use a loop.",
    ),
    known(
        "too many subprograms",
        Rule,
        "A program has 256 functions at most.",
        "Inline some, or split the program.",
    ),
    known(
        "invalid insn idx * insn_cnt *",
        Rule,
        "A path runs out of the program.",
        "End every function with exit.",
    ),
    known(
        "unknown opcode *",
        Rule,
        "The kernel does not know the instruction.",
        "Compile for an older instruction set (-mcpu=v3).",
    ),
    known(
        "invalid BPF_* opcode *",
        Rule,
        "The kernel does not know the instruction.",
        "Compile for an older instruction set (-mcpu=v3).",
    ),
    known(
        "* uses reserved fields",
        Rule,
        "A field of the instruction that has to be zero is not.",
        "Check who encodes it; instructions of a newer set (-mcpu=v4) look like this to older kernels.",
    ),
    known("div by zero", Reached, "A constant zero is divided by.", "Check the constant."),
    known(
        "invalid shift *",
        Reached,
        "The shift is as wide as the operand, or wider.",
        "Check the constant.",
    ),
    known(
        "*misaligned*access*",
        Reached,
        "The access is not aligned, and has to be for this memory or this load.",
        "Keep fields at their natural alignment, or read bytes.",
    ),
    // Kernel functions, maps, types.
    known(
        "calling kernel function * is not allowed",
        Rule,
        "The kernel function is not for this program type.",
        "Compare with where the kernel registers it.",
    ),
    known(
        "kernel function * requires * protection",
        Reached,
        "The function is for RCU sections.",
        "bpf_rcu_read_lock() before, bpf_rcu_read_unlock() behind it.",
    ),
    known(
        "fd * is not pointing to valid bpf_map*",
        Rule,
        "An instruction names a descriptor that is no map.",
        "Load through libbpf, which creates maps and puts their descriptors in.",
    ),
    known(
        "loading/calling other bpf or kernel functions are allowed for CAP_BPF and CAP_SYS_ADMIN",
        Rule,
        "Functions are not for loaders without CAP_BPF.",
        "Load with CAP_BPF, or inline them.",
    ),
    known(
        "Caller passes invalid args into func#* ('*')",
        Reached,
        "An argument does not fit the type of the global function.",
        "Check pointers for NULL before, pass memory of the parameter's size, or annotate (__arg_ctx, __arg_nonnull).",
    ),
    known("callback function not *", Rule, "Callbacks have to be static functions.", "Make it static."),
    known(
        "R* invalid * negative access*",
        Reached,
        "The access is in front of the object.",
        "Check the offset.",
    ),
    known(
        "R* is ptr_* invalid variable offset: *",
        Reached,
        "Kernel objects are accessed at constant offsets.",
        "Read with bpf_probe_read_kernel().",
    ),
    known(
        "R* is ptr_* access user memory: *",
        Reached,
        "The memory is user space's.",
        "bpf_probe_read_user().",
    ),
    known(
        "R* is ptr_* access percpu memory: *",
        Reached,
        "The memory is per CPU.",
        "bpf_per_cpu_ptr() or bpf_this_cpu_ptr() first.",
    ),
    known(
        "only read is supported",
        Reached,
        "Kernel objects are read-only to programs.",
        "Use the helper or kernel function that changes them.",
    ),
    known(
        "access beyond *",
        Reached,
        "The access is not inside of the kernel's structure.",
        "Compare with the structure; CO-RE adjusts offsets only of types with preserve_access_index.",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_messages() {
        for (message, pattern) in [
            ("R0 invalid mem access 'map_value_or_null'", "R* invalid mem access '*_or_null'"),
            ("R3 invalid mem access 'scalar'", "R* invalid mem access 'scalar'"),
            ("R0 !read_ok", "R0 !read_ok"),
            ("R7 !read_ok", "R* !read_ok"),
            (
                "program of this type cannot use helper bpf_probe_read#4",
                "program of this type cannot use helper *",
            ),
            ("Unreleased reference id=3 alloc_insn=7", "Unreleased reference id=* alloc_insn=*"),
            ("invalid stack R10 off=-520 size=8", "invalid* stack R* off=* size=*"),
            (
                "invalid access to map value, value_size=8 off=4 size=8",
                "invalid access to map value, value_size=* off=* size=*",
            ),
        ] {
            assert_eq!(look_up(message).map(|known| known.pattern), Some(pattern), "{message}");
        }
        assert!(look_up("R0 !read_ok and more").is_none());
        assert!(look_up("").is_none());
        assert!(matches("a*b*c", "a b b c") && !matches("a*b*c", "a c b"));
    }

    /// An entry behind one that takes all its messages would never be found.
    #[test]
    fn no_entry_hides_another() {
        for (i, known) in KNOWN.iter().enumerate() {
            let sample = known.pattern.replace('*', "3");
            let found = KNOWN.iter().position(|other| matches(other.pattern, &sample));
            assert_eq!(
                found,
                Some(i),
                "{} is hidden by {}",
                known.pattern,
                KNOWN[found.unwrap_or(0)].pattern
            );
        }
    }
}
