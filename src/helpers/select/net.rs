//! Helpers of the networking program types.

use bpftwin_uapi::HelperId::{self, *};

use super::base::{bpf_base_func_proto, bpf_sk_base_func_proto};
use crate::helpers::proto::ProgCtx;
use crate::helpers::protos::{base, skb, sock, storage, xdp};
use crate::helpers::select::Proto;

/// `BPF_PROG_TYPE_SOCKET_FILTER`
pub(super) fn sk_filter_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    Some(match func_id {
        SkbLoadBytes => &skb::SKB_LOAD_BYTES,
        SkbLoadBytesRelative => &skb::SKB_LOAD_BYTES_RELATIVE,
        GetSocketCookie => &sock::GET_SOCKET_COOKIE,
        GetNetnsCookie => &sock::GET_NETNS_COOKIE,
        GetSocketUid => &sock::GET_SOCKET_UID,
        PerfEventOutput => &skb::SKB_EVENT_OUTPUT,
        _ => return bpf_sk_base_func_proto(func_id, prog),
    })
}

/// `BPF_PROG_TYPE_SCHED_CLS` and `BPF_PROG_TYPE_SCHED_ACT`
pub(super) fn tc_cls_act_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    let config = prog.config;
    Some(match func_id {
        SkbStoreBytes => &skb::SKB_STORE_BYTES,
        SkbLoadBytes => &skb::SKB_LOAD_BYTES,
        SkbLoadBytesRelative => &skb::SKB_LOAD_BYTES_RELATIVE,
        SkbPullData => &skb::SKB_PULL_DATA,
        CsumDiff => &skb::CSUM_DIFF,
        CsumUpdate => &skb::CSUM_UPDATE,
        CsumLevel => &skb::CSUM_LEVEL,
        L3CsumReplace => &skb::L3_CSUM_REPLACE,
        L4CsumReplace => &skb::L4_CSUM_REPLACE,
        CloneRedirect => &skb::CLONE_REDIRECT,
        GetCgroupClassid => &skb::GET_CGROUP_CLASSID,
        SkbVlanPush => &skb::SKB_VLAN_PUSH,
        SkbVlanPop => &skb::SKB_VLAN_POP,
        SkbChangeProto => &skb::SKB_CHANGE_PROTO,
        SkbChangeType => &skb::SKB_CHANGE_TYPE,
        SkbAdjustRoom => &skb::SKB_ADJUST_ROOM,
        SkbChangeTail => &skb::SKB_CHANGE_TAIL,
        SkbChangeHead => &skb::SKB_CHANGE_HEAD,
        SkbGetTunnelKey => &skb::SKB_GET_TUNNEL_KEY,
        SkbSetTunnelKey => &skb::SKB_SET_TUNNEL_KEY,
        SkbGetTunnelOpt => &skb::SKB_GET_TUNNEL_OPT,
        SkbSetTunnelOpt => &skb::SKB_SET_TUNNEL_OPT,
        Redirect => &skb::REDIRECT,
        RedirectNeigh => &skb::REDIRECT_NEIGH,
        RedirectPeer => &skb::REDIRECT_PEER,
        GetRouteRealm => &skb::GET_ROUTE_REALM,
        GetHashRecalc => &skb::GET_HASH_RECALC,
        SetHashInvalid => &skb::SET_HASH_INVALID,
        SetHash => &skb::SET_HASH,
        PerfEventOutput => &skb::SKB_EVENT_OUTPUT,
        GetSmpProcessorId => &base::GET_SMP_PROCESSOR_ID,
        SkbUnderCgroup => &skb::SKB_UNDER_CGROUP,
        GetSocketCookie => &sock::GET_SOCKET_COOKIE,
        GetNetnsCookie => &sock::GET_NETNS_COOKIE,
        GetSocketUid => &sock::GET_SOCKET_UID,
        FibLookup => &skb::SKB_FIB_LOOKUP,
        CheckMtu => &skb::SKB_CHECK_MTU,
        SkFullsock => &sock::SK_FULLSOCK,
        SkStorageGet => &storage::SK_STORAGE_GET,
        SkStorageDelete => &storage::SK_STORAGE_DELETE,
        SkbGetXfrmState if config.xfrm => &skb::SKB_GET_XFRM_STATE,
        SkbCgroupClassid if config.cgroup_net_classid => &skb::SKB_CGROUP_CLASSID,
        SkbCgroupId if config.sock_cgroup_data => &skb::SKB_CGROUP_ID,
        SkbAncestorCgroupId if config.sock_cgroup_data => &skb::SKB_ANCESTOR_CGROUP_ID,
        SkLookupTcp if config.inet => &sock::TC_SK_LOOKUP_TCP,
        SkLookupUdp if config.inet => &sock::TC_SK_LOOKUP_UDP,
        SkRelease if config.inet => &sock::SK_RELEASE,
        TcpSock if config.inet => &sock::TCP_SOCK,
        GetListenerSock if config.inet => &sock::GET_LISTENER_SOCK,
        SkcLookupTcp if config.inet => &sock::TC_SKC_LOOKUP_TCP,
        TcpCheckSyncookie if config.inet => &sock::TCP_CHECK_SYNCOOKIE,
        SkbEcnSetCe if config.inet => &skb::SKB_ECN_SET_CE,
        TcpGenSyncookie if config.inet => &sock::TCP_GEN_SYNCOOKIE,
        SkAssign if config.inet => &sock::SK_ASSIGN,
        SkbSetTstamp if config.inet => &skb::SKB_SET_TSTAMP,
        TcpRawGenSyncookieIpv4 if config.inet && config.syn_cookies => &sock::TCP_RAW_GEN_SYNCOOKIE_IPV4,
        TcpRawGenSyncookieIpv6 if config.inet && config.syn_cookies => &sock::TCP_RAW_GEN_SYNCOOKIE_IPV6,
        TcpRawCheckSyncookieIpv4 if config.inet && config.syn_cookies => &sock::TCP_RAW_CHECK_SYNCOOKIE_IPV4,
        TcpRawCheckSyncookieIpv6 if config.inet && config.syn_cookies => &sock::TCP_RAW_CHECK_SYNCOOKIE_IPV6,
        _ => return bpf_sk_base_func_proto(func_id, prog),
    })
}

/// `BPF_PROG_TYPE_XDP`
pub(super) fn xdp_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    let config = prog.config;
    Some(match func_id {
        PerfEventOutput => &xdp::XDP_EVENT_OUTPUT,
        GetSmpProcessorId => &base::GET_SMP_PROCESSOR_ID,
        CsumDiff => &skb::CSUM_DIFF,
        XdpAdjustHead => &xdp::XDP_ADJUST_HEAD,
        XdpAdjustMeta => &xdp::XDP_ADJUST_META,
        Redirect => &xdp::XDP_REDIRECT,
        RedirectMap => &xdp::XDP_REDIRECT_MAP,
        XdpAdjustTail => &xdp::XDP_ADJUST_TAIL,
        XdpGetBuffLen => &xdp::XDP_GET_BUFF_LEN,
        XdpLoadBytes => &xdp::XDP_LOAD_BYTES,
        XdpStoreBytes => &xdp::XDP_STORE_BYTES,
        FibLookup => &xdp::XDP_FIB_LOOKUP,
        CheckMtu => &xdp::XDP_CHECK_MTU,
        SkLookupUdp if config.inet => &xdp::XDP_SK_LOOKUP_UDP,
        SkLookupTcp if config.inet => &xdp::XDP_SK_LOOKUP_TCP,
        SkRelease if config.inet => &sock::SK_RELEASE,
        SkcLookupTcp if config.inet => &xdp::XDP_SKC_LOOKUP_TCP,
        TcpCheckSyncookie if config.inet => &sock::TCP_CHECK_SYNCOOKIE,
        TcpGenSyncookie if config.inet => &sock::TCP_GEN_SYNCOOKIE,
        TcpRawGenSyncookieIpv4 if config.inet && config.syn_cookies => &sock::TCP_RAW_GEN_SYNCOOKIE_IPV4,
        TcpRawGenSyncookieIpv6 if config.inet && config.syn_cookies => &sock::TCP_RAW_GEN_SYNCOOKIE_IPV6,
        TcpRawCheckSyncookieIpv4 if config.inet && config.syn_cookies => &sock::TCP_RAW_CHECK_SYNCOOKIE_IPV4,
        TcpRawCheckSyncookieIpv6 if config.inet && config.syn_cookies => &sock::TCP_RAW_CHECK_SYNCOOKIE_IPV6,
        _ => return bpf_sk_base_func_proto(func_id, prog),
    })
}

/// `BPF_PROG_TYPE_SK_MSG`
pub(super) fn sk_msg_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    Some(match func_id {
        MsgRedirectMap => &sock::MSG_REDIRECT_MAP,
        MsgRedirectHash => &sock::MSG_REDIRECT_HASH,
        MsgApplyBytes => &sock::MSG_APPLY_BYTES,
        MsgCorkBytes => &sock::MSG_CORK_BYTES,
        MsgPullData => &sock::MSG_PULL_DATA,
        MsgPushData => &sock::MSG_PUSH_DATA,
        MsgPopData => &sock::MSG_POP_DATA,
        PerfEventOutput => &base::EVENT_OUTPUT_DATA,
        SkStorageGet => &storage::SK_STORAGE_GET,
        SkStorageDelete => &storage::SK_STORAGE_DELETE,
        GetNetnsCookie => &sock::GET_NETNS_COOKIE_SK_MSG,
        _ => return bpf_sk_base_func_proto(func_id, prog),
    })
}

/// `BPF_PROG_TYPE_SK_SKB`
pub(super) fn sk_skb_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    let config = prog.config;
    Some(match func_id {
        SkbStoreBytes => &skb::SKB_STORE_BYTES,
        SkbLoadBytes => &skb::SKB_LOAD_BYTES,
        SkbPullData => &skb::SK_SKB_PULL_DATA,
        SkbChangeTail => &skb::SK_SKB_CHANGE_TAIL,
        SkbChangeHead => &skb::SK_SKB_CHANGE_HEAD,
        SkbAdjustRoom => &skb::SK_SKB_ADJUST_ROOM,
        GetSocketCookie => &sock::GET_SOCKET_COOKIE,
        GetSocketUid => &sock::GET_SOCKET_UID,
        SkRedirectMap => &sock::SK_REDIRECT_MAP,
        SkRedirectHash => &sock::SK_REDIRECT_HASH,
        PerfEventOutput => &skb::SKB_EVENT_OUTPUT,
        SkLookupTcp if config.inet => &sock::SK_LOOKUP_TCP,
        SkLookupUdp if config.inet => &sock::SK_LOOKUP_UDP,
        SkRelease if config.inet => &sock::SK_RELEASE,
        SkcLookupTcp if config.inet => &sock::SKC_LOOKUP_TCP,
        _ => return bpf_sk_base_func_proto(func_id, prog),
    })
}

/// `BPF_PROG_TYPE_FLOW_DISSECTOR`
pub(super) fn flow_dissector_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    Some(match func_id {
        SkbLoadBytes => &skb::FLOW_DISSECTOR_LOAD_BYTES,
        _ => return bpf_sk_base_func_proto(func_id, prog),
    })
}

/// `BPF_PROG_TYPE_LWT_OUT`, and what the other lightweight tunnel types share with it
pub(super) fn lwt_out_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    Some(match func_id {
        SkbLoadBytes => &skb::SKB_LOAD_BYTES,
        SkbPullData => &skb::SKB_PULL_DATA,
        CsumDiff => &skb::CSUM_DIFF,
        GetCgroupClassid => &skb::GET_CGROUP_CLASSID,
        GetRouteRealm => &skb::GET_ROUTE_REALM,
        GetHashRecalc => &skb::GET_HASH_RECALC,
        PerfEventOutput => &skb::SKB_EVENT_OUTPUT,
        GetSmpProcessorId => &base::GET_SMP_PROCESSOR_ID,
        SkbUnderCgroup => &skb::SKB_UNDER_CGROUP,
        _ => return bpf_sk_base_func_proto(func_id, prog),
    })
}

/// `BPF_PROG_TYPE_LWT_IN`
pub(super) fn lwt_in_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    Some(match func_id {
        LwtPushEncap => &skb::LWT_IN_PUSH_ENCAP,
        _ => return lwt_out_func_proto(func_id, prog),
    })
}

/// `BPF_PROG_TYPE_LWT_XMIT`
pub(super) fn lwt_xmit_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    Some(match func_id {
        SkbGetTunnelKey => &skb::SKB_GET_TUNNEL_KEY,
        SkbSetTunnelKey => &skb::SKB_SET_TUNNEL_KEY,
        SkbGetTunnelOpt => &skb::SKB_GET_TUNNEL_OPT,
        SkbSetTunnelOpt => &skb::SKB_SET_TUNNEL_OPT,
        Redirect => &skb::REDIRECT,
        CloneRedirect => &skb::CLONE_REDIRECT,
        SkbChangeTail => &skb::SKB_CHANGE_TAIL,
        SkbChangeHead => &skb::SKB_CHANGE_HEAD,
        SkbStoreBytes => &skb::SKB_STORE_BYTES,
        CsumUpdate => &skb::CSUM_UPDATE,
        CsumLevel => &skb::CSUM_LEVEL,
        L3CsumReplace => &skb::L3_CSUM_REPLACE,
        L4CsumReplace => &skb::L4_CSUM_REPLACE,
        SetHashInvalid => &skb::SET_HASH_INVALID,
        LwtPushEncap => &skb::LWT_XMIT_PUSH_ENCAP,
        _ => return lwt_out_func_proto(func_id, prog),
    })
}

/// `BPF_PROG_TYPE_LWT_SEG6LOCAL`
pub(super) fn lwt_seg6local_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    let config = prog.config;
    Some(match func_id {
        LwtSeg6StoreBytes if config.ipv6_seg6_bpf => &skb::LWT_SEG6_STORE_BYTES,
        LwtSeg6Action if config.ipv6_seg6_bpf => &skb::LWT_SEG6_ACTION,
        LwtSeg6AdjustSrh if config.ipv6_seg6_bpf => &skb::LWT_SEG6_ADJUST_SRH,
        _ => return lwt_out_func_proto(func_id, prog),
    })
}

/// `BPF_PROG_TYPE_SK_REUSEPORT`
pub(super) fn sk_reuseport_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    Some(match func_id {
        SkSelectReuseport => &sock::SK_SELECT_REUSEPORT,
        SkbLoadBytes => &sock::SK_REUSEPORT_LOAD_BYTES,
        SkbLoadBytesRelative => &sock::SK_REUSEPORT_LOAD_BYTES_RELATIVE,
        GetSocketCookie => &sock::GET_SOCKET_PTR_COOKIE,
        KtimeGetCoarseNs => &base::KTIME_GET_COARSE_NS,
        _ => return bpf_base_func_proto(func_id, prog),
    })
}

/// `BPF_PROG_TYPE_SK_LOOKUP`
pub(super) fn sk_lookup_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    Some(match func_id {
        PerfEventOutput => &base::EVENT_OUTPUT_DATA,
        SkAssign => &sock::SK_LOOKUP_ASSIGN,
        SkRelease => &sock::SK_RELEASE,
        _ => return bpf_sk_base_func_proto(func_id, prog),
    })
}
