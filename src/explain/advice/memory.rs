//! Rejections of memory accesses, pointers and registers.

use super::Kind::{Access, Later, Null, Rule, Unset};
use super::{Known, known};

pub(super) const NULL_CHECK: &str = "Compare the pointer with NULL and leave on the NULL side before this line. The check has to be on the same value: \
     one on a copy from another lookup does not count.";
const PACKET_CHECK: &str = "Compare the end of what is accessed with data_end just before: if (ptr + sizeof(*ptr) > data_end) return; with ptr the \
     very pointer that is accessed (ptr < data_end says nothing to the verifier; metadata ends at data). Helpers that may change the packet \
     invalidate earlier checks: load data and data_end again.";
const BOUND_INDEX: &str = "Limit the index right before the access, in an unsigned variable: if (i >= LEN) return; or, where LEN is a power of two, \
     i &= LEN - 1. If the compiler keeps the check on another copy of the value, barrier_var(i) between check and use ties them.";
const BOUND_SIZE: &str = "Limit the size right before the call, in an unsigned variable: if (size > MAX) return; or size &= MAX with MAX = 2^n - 1. \
     A result of a helper is negative on error: test that first. A check on 32 bits of a register (w2) says nothing of the others: use one \
     __u64 variable for check and call.";
pub(super) const CTX_CONST: &str = "Access the context by its fields with constant offsets (ctx->field). Where the compiler computes &ctx->field first, copy \
     the fields to locals, or mark the context __arg_ctx in functions that are not inlined.";

/// From the most to the least special.
pub(super) const KNOWN: &[Known] = &[
    // Arguments of global functions. What is wrong with the memory is said on another line.
    known(
        "arg#* is expected to be non-NULL",
        Rule,
        "The function's parameter is marked as never NULL.",
        NULL_CHECK,
    ),
    known(
        "arg#* expects pointer to ctx",
        Rule,
        "The function's parameter is the context.",
        "Pass ctx as the program got it.",
    ),
    known(
        "Caller passes invalid args into func#* ('*')",
        Rule,
        "An argument does not fit the type of the global function.",
        "Check pointers for NULL before, pass memory of the parameter's size, or annotate (__arg_ctx, __arg_nonnull).",
    ),
    // Pointers that may be null, or are no pointers.
    known("R* invalid mem access '*_or_null'", Access, "The pointer may be NULL here.", NULL_CHECK),
    known(
        "R* pointer arithmetic on *_or_null prohibited, null-check it first",
        Null,
        "The pointer may be NULL here.",
        NULL_CHECK,
    ),
    known(
        "Possibly NULL pointer passed to helper arg*",
        Null,
        "The argument may be NULL, and the helper takes none.",
        NULL_CHECK,
    ),
    known(
        "R* invalid mem access 'scalar'",
        Access,
        "The address is a number to the verifier: it never was a pointer, or stopped being one when it was computed with, spilled in \
         parts or read from memory.",
        "Read kernel or user memory with bpf_probe_read_kernel() or bpf_probe_read_user() (BPF_CORE_READ() for structures). If the number \
         was a pointer once, keep it in a pointer variable: no arithmetic but addition, no store in narrower pieces.",
    ),
    known(
        "R* invalid mem access 'map_ptr'",
        Rule,
        "The map itself is accessed, not a value of it.",
        "Get a pointer to a value with bpf_map_lookup_elem(), and check it for NULL.",
    ),
    known(
        "R* invalid mem access '*'",
        Access,
        "Memory behind a pointer of this type cannot be accessed directly.",
        "Get a pointer of a kind that can be: a map value, packet data within checked bounds, the stack; or read with \
         bpf_probe_read_kernel().",
    ),
    // Registers.
    known(
        "R0 !read_ok",
        Unset,
        "The program returns, or uses the result of something, without a value: R0 was never written on this path, or a call without \
         result came in between.",
        "Return a value on every path, and initialise variables where they are declared.",
    ),
    known(
        "R* !read_ok",
        Unset,
        "The register has no value on this path. Calls leave R1 to R5 without one; a variable that is set on one branch alone has none on \
         the other.",
        "Initialise the variable where it is declared; in assembly, save what a call destroys in R6 to R9 or on the stack. Where the path \
         to here cannot be taken, the compiler knew more than the verifier: make the two conditions one.",
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
        "invalid access to packet, off=* size=*, R*(id=0,*",
        Access,
        "The access goes beyond the part of the packet that was compared with data_end on this path.",
        PACKET_CHECK,
    ),
    known(
        "invalid access to packet, *",
        Access,
        "The offset into the packet varies, and the access goes beyond the part that was compared with data_end on this path.",
        "Limit the offset first: as long as it may be 64 KiB or more in all, comparisons of the pointer say nothing. Then compare the end of what \
         is accessed with data_end: if (ptr + sizeof(*ptr) > data_end) return; with ptr the very pointer that is accessed.",
    ),
    known(
        "R* offset is outside of the packet",
        Access,
        "The pointer was not compared with data_end on this path, or compared when it was another one.",
        PACKET_CHECK,
    ),
    known(
        "cannot write into packet",
        Rule,
        "Programs of this type only read packets.",
        "Use a program type that may write (XDP, tc), or a helper such as bpf_skb_store_bytes() where the type has it.",
    ),
    known(
        "helper access to the packet is not allowed",
        Rule,
        "This helper takes no packet memory.",
        "Copy the bytes to the stack first, within checked bounds, and pass that.",
    ),
    known(
        "BPF_ATOMIC * R* * is not allowed",
        Rule,
        "Memory of this kind is not accessed atomically.",
        "Use a plain load or store, or count in a map.",
    ),
    known(
        "at the time of BPF_LD_ABS|IND R6 != pointer to skb",
        Rule,
        "Packet loads of classic BPF take the context in R6.",
        "Use bpf_skb_load_bytes(), or keep the context in R6.",
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
        "* cannot be accessed directly by load/store",
        Rule,
        "The access touches a lock, timer or another field of the map's value that only helpers may access.",
        "Access the other fields one by one; no memset() or copy of the whole value. bpf_map_update_elem() leaves such fields alone.",
    ),
    known(
        "* cannot be accessed indirectly by helper",
        Rule,
        "The memory passed to the helper covers a lock, timer or another field of the map's value that only certain helpers may access.",
        "Pass the part in front of it or behind it.",
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
        "Compare offset and size with the value's type. Where the index varies, limit it right before the access; where the size is \
         passed to a helper, limit it to what is left behind the pointer.",
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
        Rule,
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
        Access,
        "The map is read-only to programs (BPF_F_RDONLY_PROG, .rodata).",
        "Write to a map without this flag; variables that change must not be const.",
    ),
    known(
        "read from map forbidden*",
        Rule,
        "The map is write-only to programs (BPF_F_WRONLY_PROG).",
        "Read from a map without this flag.",
    ),
    known(
        "write to change key R* not allowed",
        Rule,
        "Keys are read-only to callbacks.",
        "Copy the key first.",
    ),
    known(
        "R* cannot write into *",
        Access,
        "The memory is read-only to programs.",
        "Write to a copy, or use the helper that changes it.",
    ),
    // Arithmetic on pointers.
    known(
        "math between * pointer and register with unbounded min value is not allowed",
        Later,
        "An offset of which the verifier knows no bounds is added to a pointer.",
        "Limit the offset before it is added, as an unsigned number: if (off > MAX) return; Where off is a difference or a result of a \
         helper, test for negative values first. The verifier knows no bounds of results of / and %.",
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
        "R* pointer arithmetic on pkt_end prohibited",
        Rule,
        "data_end is for comparisons only.",
        "Compute with data, and compare the result with data_end.",
    ),
    known(
        "R* pointer arithmetic on ctx prohibited",
        Rule,
        "The context is accessed at constant offsets.",
        CTX_CONST,
    ),
    known(
        "R* pointer arithmetic on * prohibited*",
        Rule,
        "Nothing can be added to a pointer of this type.",
        "Use the pointer as it is; copy what it points to first if parts of it are needed.",
    ),
    known(
        "R* pointer arithmetic with * operator prohibited",
        Rule,
        "Pointers can be added to and subtracted from, nothing else.",
        "Compute the offset as a number, and add it to the pointer.",
    ),
    known(
        "R* bitwise operator * on pointer prohibited",
        Rule,
        "Pointers can be added to and subtracted from, nothing else.",
        "Compute the offset as a number, mask that, and add it to the pointer. Where the compiler made | of a +, because it knows the lower bits, \
         barrier_var() on the offset stops it.",
    ),
    known(
        "R* 32-bit pointer arithmetic prohibited",
        Rule,
        "A pointer has 64 bits, the operation 32.",
        "Keep pointers in pointer or 64-bit variables.",
    ),
    known(
        "R* pointer += pointer prohibited",
        Rule,
        "Two pointers are added.",
        "Add an offset to one of them. The verifier may take a number for a pointer that was read from where one was stored.",
    ),
    known(
        "R* pointer * pointer prohibited",
        Rule,
        "Two pointers are computed with.",
        "Subtract pointers into the same packet only; elsewhere keep the offset as a number.",
    ),
    known(
        "R* tried to subtract pointer from scalar",
        Rule,
        "A pointer is subtracted from a number.",
        "Turn the operands round.",
    ),
    known(
        "R* subtraction from stack pointer prohibited",
        Rule,
        "A variable is subtracted from a stack pointer.",
        "Use an array and an index that is limited.",
    ),
    known(
        "R* pointer comparison prohibited",
        Rule,
        "Pointers of these types cannot be compared.",
        "Compare packet pointers with data_end, and other pointers with NULL.",
    ),
    known(
        "R* sign-extension part of pointer",
        Rule,
        "A pointer is narrowed.",
        "Keep pointers in pointer or 64-bit variables.",
    ),
    known(
        "R* partial copy of pointer",
        Rule,
        "A pointer is narrowed.",
        "Keep pointers in pointer or 64-bit variables.",
    ),
    // The stack.
    known(
        "invalid size of register spill",
        Rule,
        "A pointer or number with all its 64 bits is stored in less, or one that is narrower than the store.",
        "Store pointers as 64-bit values. Compiled code does this when the stack runs short or functions pass structures by value: inline \
         the function (__always_inline), or use a newer compiler or -O2.",
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
        "invalid read from stack R* off=* size=*",
        Access,
        "The read goes on above the frame, or begins below it: the variable is smaller than what is read.",
        "Compare the sizes: a map reads key_size and value_size bytes, another helper as many as its size argument says. Limit a size \
         that varies to what is left of the variable.",
    ),
    known(
        "invalid read from stack *",
        Access,
        "Bytes of the stack are read that nothing was written to, often the padding of a structure.",
        "Initialise the variable as a whole: = {} or __builtin_memset(&var, 0, sizeof(var)), which also covers padding.",
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
        "The access is not inside of the 512 bytes of the stack frame.",
        "Check that the variable is as large as what is accessed. Limit an offset or a size that varies to what is left of the variable.",
    ),
    known(
        "R* variable * stack access prohibited for !root*",
        Rule,
        "Loaders without CAP_PERFMON access the stack at constant offsets.",
        "Load with CAP_BPF and CAP_PERFMON, or unroll.",
    ),
    known(
        "cannot return stack pointer to the caller",
        Rule,
        "A function returns the address of its own variable.",
        "Let the caller pass the memory.",
    ),
    known(
        "cannot spill pointers to stack into stack frame of the caller",
        Rule,
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
];
