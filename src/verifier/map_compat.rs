//! Which helpers work on which maps: `check_map_func_compatibility`.
//!
//! The relation is kept from both ends, as in the kernel: some map types admit a closed list of helpers, and some helpers
//! a closed list of map types. Both must agree.

use bpftwin_uapi::{AttachType, Errno, HelperId, MapType, ProgType};

use super::prog::VerifierMap;
use super::{Result, Verifier};
use crate::verbose;

/// What a map type says to a helper.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Yes,
    No,
    /// Updates of socket maps depend on the program: `may_update_sockmap`.
    IfMayUpdateSockmap,
}

fn map_admits(map_type: MapType, func: HelperId) -> Verdict {
    use HelperId::*;
    use MapType::*;
    let admitted = match map_type {
        ProgArray => matches!(func, TailCall),
        PerfEventArray => {
            matches!(func, PerfEventRead | PerfEventOutput | SkbOutput | PerfEventReadValue | XdpOutput)
        }
        Ringbuf => matches!(
            func,
            RingbufOutput
                | RingbufReserve
                | RingbufQuery
                | RingbufReserveDynptr
                | RingbufSubmitDynptr
                | RingbufDiscardDynptr
        ),
        UserRingbuf => matches!(func, UserRingbufDrain),
        StackTrace => matches!(func, GetStackid),
        CgroupArray => matches!(func, SkbUnderCgroup | CurrentTaskUnderCgroup),
        CgroupStorage | PercpuCgroupStorage => matches!(func, GetLocalStorage),
        Devmap | DevmapHash | Xskmap => matches!(func, RedirectMap | MapLookupElem),
        Cpumap => matches!(func, RedirectMap),
        ArrayOfMaps | HashOfMaps => matches!(func, MapLookupElem),
        Sockmap => {
            if !matches!(
                func,
                SkRedirectMap | SockMapUpdate | MsgRedirectMap | SkSelectReuseport | MapLookupElem
            ) {
                return Verdict::IfMayUpdateSockmap;
            }
            true
        }
        Sockhash => {
            if !matches!(
                func,
                SkRedirectHash | SockHashUpdate | MsgRedirectHash | SkSelectReuseport | MapLookupElem
            ) {
                return Verdict::IfMayUpdateSockmap;
            }
            true
        }
        ReuseportSockarray => matches!(func, SkSelectReuseport),
        Queue | Stack => matches!(func, MapPeekElem | MapPopElem | MapPushElem),
        SkStorage => matches!(func, SkStorageGet | SkStorageDelete | KptrXchg),
        InodeStorage => matches!(func, InodeStorageGet | InodeStorageDelete | KptrXchg),
        TaskStorage => matches!(func, TaskStorageGet | TaskStorageDelete | KptrXchg),
        CgrpStorage => matches!(func, CgrpStorageGet | CgrpStorageDelete | KptrXchg),
        BloomFilter => matches!(func, MapPeekElem | MapPushElem),
        _ => true,
    };
    if admitted { Verdict::Yes } else { Verdict::No }
}

fn func_admits(func: HelperId, map_type: MapType) -> bool {
    use HelperId::*;
    use MapType::*;
    match func {
        TailCall => matches!(map_type, ProgArray),
        PerfEventRead | PerfEventOutput | PerfEventReadValue | SkbOutput | XdpOutput => {
            matches!(map_type, PerfEventArray)
        }
        RingbufOutput | RingbufReserve | RingbufQuery | RingbufReserveDynptr | RingbufSubmitDynptr
        | RingbufDiscardDynptr => matches!(map_type, Ringbuf),
        UserRingbufDrain => matches!(map_type, UserRingbuf),
        GetStackid => matches!(map_type, StackTrace),
        CurrentTaskUnderCgroup | SkbUnderCgroup => matches!(map_type, CgroupArray),
        RedirectMap => matches!(map_type, Devmap | DevmapHash | Cpumap | Xskmap),
        SkRedirectMap | MsgRedirectMap | SockMapUpdate => matches!(map_type, Sockmap),
        SkRedirectHash | MsgRedirectHash | SockHashUpdate => matches!(map_type, Sockhash),
        GetLocalStorage => matches!(map_type, CgroupStorage | PercpuCgroupStorage),
        SkSelectReuseport => matches!(map_type, ReuseportSockarray | Sockmap | Sockhash),
        MapPopElem => matches!(map_type, Queue | Stack),
        MapPeekElem | MapPushElem => matches!(map_type, Queue | Stack | BloomFilter),
        MapLookupPercpuElem => matches!(map_type, PercpuArray | PercpuHash | LruPercpuHash),
        SkStorageGet | SkStorageDelete => matches!(map_type, SkStorage),
        InodeStorageGet | InodeStorageDelete => matches!(map_type, InodeStorage),
        TaskStorageGet | TaskStorageDelete => matches!(map_type, TaskStorage),
        CgrpStorageGet | CgrpStorageDelete => matches!(map_type, CgrpStorage),
        _ => true,
    }
}

impl Verifier {
    /// `check_map_func_compatibility`
    pub(super) fn check_map_func_compatibility(&mut self, map: &VerifierMap, func: HelperId) -> Result<()> {
        let admitted = match map_admits(map.map_type, func) {
            Verdict::Yes => true,
            Verdict::No => false,
            Verdict::IfMayUpdateSockmap => self.may_update_sockmap(func),
        };
        if !admitted || !func_admits(func, map.map_type) {
            verbose!(
                self,
                "cannot pass map_type {} into func bpf_{}#{}\n",
                map.map_type as u32,
                func.name(),
                func as u32
            );
            return Err(Errno::EINVAL);
        }
        if func == HelperId::TailCall && self.subprog_cnt > 1 && !self.allow_tail_call_in_subprogs() {
            verbose!(self, "mixing of tail_calls and bpf-to-bpf calls is not supported\n");
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    /// The JIT of x86-64 supports both together; the interpreter does not.
    fn allow_tail_call_in_subprogs(&self) -> bool {
        self.prog.config.jit
    }

    /// `may_update_sockmap`: contexts in which no socket is locked.
    fn may_update_sockmap(&mut self, func: HelperId) -> bool {
        use ProgType::*;
        if !matches!(func, HelperId::MapUpdateElem | HelperId::MapDeleteElem) {
            return false;
        }
        let safe = match self.prog.prog_type {
            Tracing => self.prog.expected_attach_type == AttachType::TraceIter as u32,
            // Updates go through helpers of their own, which look at the kind of event.
            SockOps => func == HelperId::MapDeleteElem,
            SocketFilter | SchedCls | SchedAct | Xdp | SkReuseport | FlowDissector | SkLookup => true,
            _ => false,
        };
        if !safe {
            verbose!(self, "cannot update sockmap in this context\n");
        }
        safe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_agree_on_maps_with_closed_lists() {
        // Every helper that insists on a map type must be admitted by it; kptr_xchg and lookups are one-sided.
        for &func in HelperId::ALL {
            for &map_type in MapType::ALL {
                let open = MapType::ALL.iter().all(|&any| func_admits(func, any));
                if !open && func_admits(func, map_type) {
                    assert!(map_admits(map_type, func) != Verdict::No, "{func:?} {map_type:?}");
                }
            }
        }
        assert!(map_admits(MapType::Devmap, HelperId::MapUpdateElem) == Verdict::No);
        assert!(map_admits(MapType::Sockhash, HelperId::MapPopElem) == Verdict::IfMayUpdateSockmap);
        assert!(!func_admits(HelperId::MapPopElem, MapType::BloomFilter));
    }
}
