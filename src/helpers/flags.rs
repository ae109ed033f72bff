//! What the verifier knows of a helper by its number alone: the predicates over `enum bpf_func_id`.

use bpftwin_uapi::{HelperId, MapType};

use crate::kernel::config::KernelConfig;

/// Returns a reference that the program must release. `map_type` is that of the map argument, if it has one.
#[inline]
pub const fn is_acquire_function(func_id: HelperId, map_type: Option<MapType>) -> bool {
    use HelperId::*;
    match func_id {
        SkLookupTcp | SkLookupUdp | SkcLookupTcp | RingbufReserve | KptrXchg => true,
        MapLookupElem => matches!(map_type, Some(MapType::Sockmap | MapType::Sockhash)),
        _ => false,
    }
}

/// Returns its argument under another type, with the same reference behind it.
#[inline]
pub const fn is_ptr_cast_function(func_id: HelperId) -> bool {
    use HelperId::*;
    matches!(
        func_id,
        TcpSock
            | SkFullsock
            | SkcToTcpSock
            | SkcToTcp6Sock
            | SkcToUdp6Sock
            | SkcToMptcpSock
            | SkcToTcpTimewaitSock
            | SkcToTcpRequestSock
    )
}

/// Returns memory that lives as long as the dynptr it is part of.
#[inline]
pub const fn is_dynptr_ref_function(func_id: HelperId) -> bool {
    matches!(func_id, HelperId::DynptrData)
}

/// Calls a function of the program before it returns.
#[inline]
pub const fn is_sync_callback_calling_function(func_id: HelperId) -> bool {
    use HelperId::*;
    matches!(func_id, ForEachMapElem | FindVma | Loop | UserRingbufDrain)
}

/// Registers a function of the program that the kernel calls later.
#[inline]
pub const fn is_async_callback_calling_function(func_id: HelperId) -> bool {
    matches!(func_id, HelperId::TimerSetCallback)
}

/// Takes a function of the program.
#[inline]
pub const fn is_callback_calling_function(func_id: HelperId) -> bool {
    is_sync_callback_calling_function(func_id) || is_async_callback_calling_function(func_id)
}

/// May allocate local storage, atomically or not.
#[inline]
pub const fn is_storage_get_function(func_id: HelperId) -> bool {
    use HelperId::*;
    matches!(func_id, SkStorageGet | InodeStorageGet | TaskStorageGet | CgrpStorageGet)
}

/// More than one property of the helper would decide the reference behind its return value: the kernel takes such a
/// helper for a bug of its own.
#[inline]
pub const fn helper_multiple_ref_obj_use(func_id: HelperId, map_type: Option<MapType>) -> bool {
    is_ptr_cast_function(func_id) as u8
        + is_acquire_function(func_id, map_type) as u8
        + is_dynptr_ref_function(func_id) as u8
        > 1
}

/// May move or change the packet, so that pointers into it become invalid.
#[inline]
pub const fn bpf_helper_changes_pkt_data(func_id: HelperId) -> bool {
    use HelperId::*;
    matches!(
        func_id,
        CloneRedirect
            | L3CsumReplace
            | L4CsumReplace
            | LwtPushEncap
            | LwtSeg6Action
            | LwtSeg6AdjustSrh
            | LwtSeg6StoreBytes
            | MsgPopData
            | MsgPullData
            | MsgPushData
            | SkbAdjustRoom
            | SkbChangeHead
            | SkbChangeProto
            | SkbChangeTail
            | SkbPullData
            | SkbStoreBytes
            | SkbVlanPop
            | SkbVlanPush
            | StoreHdrOpt
            | XdpAdjustHead
            | XdpAdjustMeta
            | XdpAdjustTail
            // The program called could call any of the above.
            | TailCall
    )
}

/// The JIT emits the helper's body instead of the call: on x86-64 it does so for none.
#[inline]
pub const fn bpf_jit_inlines_helper_call(_func_id: HelperId) -> bool {
    false
}

/// The verifier itself replaces the call by instructions.
#[inline]
pub const fn verifier_inlines_helper_call(config: &KernelConfig, func_id: HelperId) -> bool {
    matches!(func_id, HelperId::GetSmpProcessorId) && config.jit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_helper_is_a_bug_of_the_kernel() {
        for &id in HelperId::ALL {
            for map_type in [None, Some(MapType::Sockmap)] {
                assert!(!helper_multiple_ref_obj_use(id, map_type), "{id:?}");
            }
        }
    }
}
