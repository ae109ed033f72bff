//! What each program type may return: the table inside of the kernel's `check_return_code`.

use bpftwin_uapi::AttachType::{self, *};
use bpftwin_uapi::ProgType;

use super::resolve_prog_type;
use crate::verifier::prog::Prog;

/// Rule for the value that a program's main function returns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ReturnRange {
    /// Any scalar: `check_return_code` ends with success before it looks at the value.
    Any,
    /// A scalar within these bounds, which are inclusive.
    Within(i32, i32),
    /// Like `Within`; a value that is certain to be within the second bounds ties the program to its attach type
    /// (`enforce_expected_attach_type`).
    WithinEnforcing { min: i32, max: i32, enforce_min: u64, enforce_max: u64 },
    /// The kernel has no rule for the attach type: `ENOTSUPP`.
    Unsupported,
    /// Depends on the prototype of a function in the kernel's BTF.
    AttachFunction,
}

use ReturnRange::{Any, AttachFunction, Unsupported, Within, WithinEnforcing};

/// Rule for the programs of this type and attach type.
pub fn return_range(prog: &Prog) -> ReturnRange {
    let attach_type = AttachType::from_u32(prog.expected_attach_type);
    match resolve_prog_type(prog) {
        ProgType::CgroupSockAddr => match attach_type {
            Some(
                CgroupUdp4Recvmsg
                | CgroupUdp6Recvmsg
                | CgroupUnixRecvmsg
                | CgroupInet4Getpeername
                | CgroupInet6Getpeername
                | CgroupUnixGetpeername
                | CgroupInet4Getsockname
                | CgroupInet6Getsockname
                | CgroupUnixGetsockname,
            ) => Within(1, 1),
            Some(CgroupInet4Bind | CgroupInet6Bind) => Within(0, 3),
            _ => Within(0, 1),
        },
        ProgType::CgroupSkb if attach_type == Some(CgroupInetEgress) => {
            // The upper two values carry a congestion notification, which ingress hooks do not know.
            WithinEnforcing { min: 0, max: 3, enforce_min: 2, enforce_max: 3 }
        }
        ProgType::CgroupSkb
        | ProgType::CgroupSock
        | ProgType::SockOps
        | ProgType::CgroupDevice
        | ProgType::CgroupSysctl
        | ProgType::CgroupSockopt
        | ProgType::SkLookup
        | ProgType::Netfilter => Within(0, 1),
        ProgType::RawTracepoint if prog.attach_btf_id != 0 => Within(0, 0),
        ProgType::Tracing => match attach_type {
            Some(TraceFentry | TraceFexit) => Within(0, 0),
            Some(TraceRawTp | ModifyReturn) => Any,
            Some(TraceIter) => Within(0, 1),
            _ => Unsupported,
        },
        ProgType::Kprobe => match attach_type {
            Some(TraceKprobeSession | TraceUprobeSession) => Within(0, 1),
            _ => Any,
        },
        ProgType::Lsm | ProgType::StructOps => AttachFunction,
        _ => Any,
    }
}
