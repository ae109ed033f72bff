//! Rejections of calls, references, types, and of programs as a whole.

use super::Kind::{Access, Endless, Leak, Null, Reached, Returns, Rule};
use super::memory::{CTX_CONST, NULL_CHECK};
use super::{Known, known};

const RELEASE: &str = "Release it on every way out, error paths too: bpf_sk_release() for sockets, bpf_ringbuf_submit() or \
     bpf_ringbuf_discard() for records, the release function for kernel objects.";

/// From the most to the least special.
pub(super) const KNOWN: &[Known] = &[
    // The context.
    known(
        "invalid bpf_context access off=*",
        Rule,
        "The context of this program type has no such field, not for this size, or not for writing.",
        "Compare the field with the type's list in the kernel's documentation. For other attach types it may be there: check the section \
         name. In a tracepoint, compare the structure with its format file.",
    ),
    known(
        "dereference of modified ctx ptr R* off=* disallowed",
        Rule,
        "The context is accessed at constant offsets from its start.",
        CTX_CONST,
    ),
    known(
        "dereference of modified * ptr R* off=* disallowed",
        Rule,
        "The pointer is accessed, or passed on, at its start only.",
        "Pass the pointer as it was; copy what is needed from behind it.",
    ),
    known(
        "negative offset * ptr R* off=* disallowed",
        Rule,
        "The access is in front of the object.",
        "Check how the pointer is computed; container_of() is not possible here.",
    ),
    known(
        "variable * access var_off=* disallowed",
        Rule,
        "The object is accessed at constant offsets only.",
        CTX_CONST,
    ),
    known(
        "* access cannot have variable offset",
        Rule,
        "The object is accessed at constant offsets only.",
        "Use constant offsets.",
    ),
    known(
        "same insn cannot be used with different pointers",
        Rule,
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
        Returns,
        "The return value is not one that this program type may return.",
        "Return one of the values that the type knows, on every path. Results of helpers are any number: map them.",
    ),
    known(
        "*the register R* has *should have been in [*]",
        Returns,
        "The return value is not one that is allowed here.",
        "Return one of the values that are allowed, on every path.",
    ),
    known("At * the register R* is not a *", Rule, "What is returned is a pointer.", "Return a number."),
    known("R0 not a scalar value", Rule, "What is returned is a pointer.", "Return a number."),
    // Types of arguments.
    known(
        "R* type=*_or_null expected=*",
        Null,
        "The argument may be NULL, and the helper takes none.",
        NULL_CHECK,
    ),
    known(
        "R* type=scalar expected=*",
        Access,
        "The verifier takes the argument for a number: it never was a pointer, or stopped being one when it was computed with, released, \
         or read from memory.",
        "Pass the pointer that a lookup or the context gave, from a pointer variable. Addresses in kernel memory cannot be passed: copy \
         what they point to with bpf_probe_read_kernel() first.",
    ),
    known(
        "R* type=* expected=*",
        Rule,
        "The helper takes a pointer to other memory.",
        "Pass what the helper's prototype wants; copy to the stack what lies in memory that it does not take.",
    ),
    known(
        "R* is of type * but * is expected",
        Rule,
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
        "R* is not a known constant'",
        Rule,
        "The argument has to be a constant.",
        "Pass a literal. A ring buffer takes records of any size through bpf_ringbuf_output() or bpf_ringbuf_reserve_dynptr(); else \
         reserve the largest one.",
    ),
    known(
        "R* does not point to a readonly map'",
        Rule,
        "The string has to be in a read-only, frozen map.",
        "Declare it static const char[] (it goes to .rodata).",
    ),
    known(
        "R* doesn't have constant offset. *",
        Rule,
        "The field has to be at a constant offset.",
        "Access it through a pointer to its structure, without index.",
    ),
    known(
        "R* must have zero offset when passed to release func*",
        Rule,
        "What is released has to be the pointer that was acquired.",
        "Keep the acquired pointer, and pass that.",
    ),
    known(
        "variable offset stack pointer cannot be passed into helper function; *",
        Rule,
        "The helper takes a stack pointer at a constant offset.",
        "Copy to a variable, and pass that.",
    ),
    known(
        "*() may write into memory pointed by R* type=*",
        Rule,
        "The helper would write to memory that is read-only to programs.",
        "Let it write to the stack or to a map value.",
    ),
    known(
        "string is not zero-terminated",
        Rule,
        "The constant string has no terminating zero.",
        "Declare it as a string literal: static const char fmt[] = \"…\"; as an array of characters it needs the zero.",
    ),
    known(
        "Invalid format string",
        Rule,
        "The format has a conversion that is not supported, or too many.",
        "Use what bpf_trace_printk() in bpf-helpers(7) lists, with as many arguments as conversions.",
    ),
    known("get_local_storage() doesn't support non-zero flags", Rule, "The flags are reserved.", "Pass 0."),
    // Helpers.
    known(
        "program of this type cannot use helper *",
        Rule,
        "The kernel has the helper, but not for this program type (or attach type).",
        "Compare with the program types in bpf-helpers(7). Where the program's section name is generic, the type that is meant may be \
         another one.",
    ),
    known(
        "invalid func *#*",
        Rule,
        "The kernel does not know a helper of this number.",
        "It may be newer than this kernel: test for it with bpf_core_enum_value_exists(enum bpf_func_id, …) and have a way without it.",
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
        "Make the program sleepable (SEC(\"fentry.s/…\"), SEC(\"lsm.s/…\"), SEC(\"uprobe.s/…\")), or use what does not sleep: \
         bpf_probe_read_user() for bpf_copy_from_user().",
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
    known(
        "func bpf_*#* not supported for program type *",
        Rule,
        "The kernel has the helper, but not for this program type.",
        "Compare with the program types in bpf-helpers(7).",
    ),
    known(
        "func bpf_*#* supported only for fentry/fexit/fmod_ret programs",
        Rule,
        "The kernel has the helper, but not for this program type.",
        "Use fentry, fexit or fmod_ret.",
    ),
    known(
        "mixing of tail_calls and bpf-to-bpf calls is not supported",
        Rule,
        "Tail calls in programs with functions need a JIT that supports it.",
        "Inline the functions (__always_inline), or do without tail calls.",
    ),
    known(
        "LD_ABS is only allowed in functions that return 'int'.",
        Rule,
        "A failing packet load ends its function with 0.",
        "Let the function return int, or use bpf_skb_load_bytes().",
    ),
    // References and locks.
    known(
        "Unreleased reference id=* alloc_insn=*",
        Leak,
        "What was acquired is not released on this path.",
        RELEASE,
    ),
    known("* would lead to reference leak", Leak, "Something acquired is still held here.", RELEASE),
    known(
        "function calls are not allowed while holding a lock",
        Rule,
        "No calls between bpf_spin_lock() and bpf_spin_unlock().",
        "Do the call before the lock, or after the unlock.",
    ),
    known(
        "global function calls are not allowed while holding a lock*",
        Rule,
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
    known(
        "Acquiring the same lock again, AA deadlock detected",
        Reached,
        "The lock is held already.",
        "Unlock it first.",
    ),
    known(
        "off * doesn't point to 'struct *' that is at *",
        Rule,
        "The pointer is not to the lock (or timer) in the value.",
        "Pass &value->lock.",
    ),
    known(
        "timer pointer in R1 map_uid=* doesn't match map pointer in R2 map_uid=*",
        Rule,
        "The timer is in a value of another map than the one that is passed.",
        "Pass the map that the value was looked up in.",
    ),
    known(
        "tracing progs cannot use * yet",
        Rule,
        "Tracing programs may run anywhere, also where the lock is held: maps with such fields are not for them.",
        "Use atomic operations (__sync_fetch_and_add()) or per-CPU maps for counters; put the lock or timer into another map.",
    ),
    known(
        "socket filter progs cannot use * yet",
        Rule,
        "Maps with such fields are not for socket filters.",
        "Use atomic operations (__sync_fetch_and_add()) or per-CPU maps for counters.",
    ),
    known(
        "global functions that may sleep are not allowed in non-sleepable context,",
        Reached,
        "The global function calls something that may sleep, which is not possible here.",
        "Make the function static, or call it outside of the region.",
    ),
    // Size and shape of programs.
    known(
        "BPF program is too large. Processed * insn",
        Rule,
        "The verifier walked a million instructions, over all paths.",
        "Fewer paths: bpf_loop() or bpf_for() instead of unrolled or bounded loops, global functions (each verified once) for parts, \
         masks instead of branches; or tail calls.",
    ),
    known(
        "The sequence of * jumps is too complex.",
        Rule,
        "Too many branches wait to be walked.",
        "Fewer branches in a row: a table, a loop with bpf_loop(), or a global function.",
    ),
    known(
        "infinite loop detected at insn *",
        Endless,
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
    known("div by zero", Rule, "A constant zero is divided by.", "Check the constant."),
    known("invalid shift *", Rule, "The shift is as wide as the operand, or wider.", "Check the constant."),
    known(
        "*misaligned*access*",
        Rule,
        "The access is not aligned, and has to be for this memory or this load.",
        "Keep fields at their natural alignment, or read bytes.",
    ),
    // Kernel functions, maps, types.
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
    known("callback function not *", Rule, "Callbacks have to be static functions.", "Make it static."),
    known(
        "R* is ptr_* invalid variable offset: *",
        Rule,
        "Kernel objects are accessed at constant offsets.",
        "Read with bpf_probe_read_kernel().",
    ),
    known("R* is ptr_* access user memory: *", Rule, "The memory is user space's.", "bpf_probe_read_user()."),
    known(
        "R* is ptr_* access percpu memory: *",
        Rule,
        "The memory is per CPU.",
        "bpf_per_cpu_ptr() or bpf_this_cpu_ptr() first.",
    ),
    known(
        "only read is supported",
        Rule,
        "Kernel objects are read-only to programs.",
        "Use the helper or kernel function that changes them.",
    ),
    known(
        "access beyond *",
        Rule,
        "The access is not inside of the kernel's structure.",
        "Compare with the structure; CO-RE adjusts offsets only of types with preserve_access_index.",
    ),
    known(
        "R* is * invalid negative access: off=*",
        Rule,
        "The access is in front of the object.",
        "Check the offset; container_of() does not work on pointers from helpers.",
    ),
    known(
        "only read from * is supported",
        Rule,
        "The structure is read-only to programs.",
        "Use the helper that changes it.",
    ),
    known(
        "store to uptr disallowed",
        Rule,
        "A user pointer in a map value is set by user space alone.",
        "Write through it, not to it.",
    ),
    known(
        "store to referenced kptr disallowed",
        Rule,
        "A reference in a map value is changed by exchange alone.",
        "bpf_kptr_xchg().",
    ),
    known(
        "invalid kptr access, *",
        Rule,
        "The pointer that is stored in the map value is not of the field's type.",
        "Compare with the field's type, and with its tag (__kptr, __kptr_untrusted).",
    ),
    known(
        "off=* doesn't point to kptr",
        Rule,
        "There is no kernel pointer at this offset of the map value.",
        "Pass &value->field of a field that is marked __kptr.",
    ),
    known("R* has no valid kptr", Rule, "The map value has no kernel pointers.", "Mark the field __kptr."),
    known(
        "ldimm64 failed to find the address for kernel symbol '*'.",
        Rule,
        "The variable is in the kernel's BTF, but its symbol has no address here.",
        "Compare with /proc/kallsyms: the variable may be optimised away or per CPU.",
    ),
    known(
        "Cannot access kernel 'struct *' from non-GPL compatible program",
        Rule,
        "Kernel structures are for programs with a GPL-compatible license.",
        "char LICENSE[] SEC(\"license\") = \"GPL\"; if the program may have it.",
    ),
    known(
        "struct ops programs must have a GPL compatible license",
        Rule,
        "The program type is for programs with a GPL-compatible license.",
        "char LICENSE[] SEC(\"license\") = \"GPL\"; if the program may have it.",
    ),
    known(
        "Only fentry/fexit/fmod_ret, lsm, iter, uprobe, and struct_ops programs can be sleepable",
        Rule,
        "This program type cannot sleep.",
        "Leave out the .s in its section name, or attach elsewhere.",
    ),
    known(
        "attach_btf_id * is *",
        Rule,
        "What the program is to be attached to is not in the kernel's BTF, or is no function.",
        "Check the name behind the slash in SEC(); inlined functions cannot be attached to.",
    ),
    known(
        "The function * is unsupported.",
        Rule,
        "The kernel function's arguments or result cannot be traced with fentry or fexit.",
        "Use kprobe.",
    ),
    known(
        "The function * arguments. Too many.",
        Rule,
        "The kernel function has more arguments than fentry and fexit support.",
        "Use kprobe.",
    ),
    known(
        "no direct value access support for this map type",
        Rule,
        "Only arrays have values with an address.",
        "Look the value up with bpf_map_lookup_elem().",
    ),
    known(
        "missing btf func_info",
        Rule,
        "Global functions and callbacks need type information.",
        "Compile with -g, and do not strip .BTF and .BTF.ext.",
    ),
    known(
        "verifier bug: *",
        Rule,
        "The verifier contradicts itself. This is not the program's fault.",
        "Report it to bpf@vger.kernel.org with the program; a newer kernel may have the fix.",
    ),
];
