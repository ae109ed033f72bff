//! Layouts of the contexts that programs see: offset and size of every field that a rule names.
//!
//! The numbers are those of `include/uapi/linux/bpf.h`, of `struct pt_regs` on x86-64 and of `include/linux/bpf.h`.

/// Byte range of one field, or of several neighbouring ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Field {
    pub start: i32,
    /// First byte behind: `offsetofend`.
    pub end: i32,
}

impl Field {
    const fn new(start: i32, size: i32) -> Self {
        Self { start, end: start + size }
    }

    /// The range from this field to the end of `last`: `bpf_ctx_range_till`.
    pub const fn till(self, last: Field) -> Self {
        Self { start: self.start, end: last.end }
    }

    /// The bytes between two fields: padding.
    pub const fn gap(self, next: Field) -> Self {
        Self { start: self.end, end: next.start }
    }

    #[inline]
    pub const fn contains(self, off: i32) -> bool {
        self.start <= off && off < self.end
    }
}

/// Whether `off` is inside of one of the fields.
#[inline]
pub fn within(off: i32, fields: &[Field]) -> bool {
    fields.iter().any(|field| field.contains(off))
}

macro_rules! layout {
    ($($(#[$doc:meta])* $name:ident ($size:literal) { $($field:ident @ $off:literal : $len:literal,)* })*) => {$(
        $(#[$doc])*
        pub mod $name {
            #[allow(unused_imports)]
            use super::Field;
            /// Size of the whole structure in bytes.
            pub const SIZE: i32 = $size;
            $(pub const $field: Field = Field::new($off, $len);)*
        }
    )*};
}

layout! {
    /// `struct __sk_buff`
    sk_buff (192) {
        LEN @ 0: 4,
        PKT_TYPE @ 4: 4,
        MARK @ 8: 4,
        QUEUE_MAPPING @ 12: 4,
        PROTOCOL @ 16: 4,
        VLAN_PRESENT @ 20: 4,
        VLAN_TCI @ 24: 4,
        VLAN_PROTO @ 28: 4,
        PRIORITY @ 32: 4,
        INGRESS_IFINDEX @ 36: 4,
        IFINDEX @ 40: 4,
        TC_INDEX @ 44: 4,
        CB @ 48: 20,
        HASH @ 68: 4,
        TC_CLASSID @ 72: 4,
        DATA @ 76: 4,
        DATA_END @ 80: 4,
        NAPI_ID @ 84: 4,
        FAMILY @ 88: 4,
        REMOTE_IP4 @ 92: 4,
        LOCAL_IP4 @ 96: 4,
        REMOTE_IP6 @ 100: 16,
        LOCAL_IP6 @ 116: 16,
        REMOTE_PORT @ 132: 4,
        LOCAL_PORT @ 136: 4,
        DATA_META @ 140: 4,
        FLOW_KEYS @ 144: 8,
        TSTAMP @ 152: 8,
        WIRE_LEN @ 160: 4,
        GSO_SEGS @ 164: 4,
        SK @ 168: 8,
        GSO_SIZE @ 176: 4,
        TSTAMP_TYPE @ 180: 1,
        HWTSTAMP @ 184: 8,
    }
    /// `struct xdp_md`
    xdp_md (24) {
        DATA @ 0: 4,
        DATA_END @ 4: 4,
        DATA_META @ 8: 4,
        INGRESS_IFINDEX @ 12: 4,
        RX_QUEUE_INDEX @ 16: 4,
        EGRESS_IFINDEX @ 20: 4,
    }
    /// `struct bpf_sock`
    bpf_sock (80) {
        BOUND_DEV_IF @ 0: 4,
        FAMILY @ 4: 4,
        TYPE @ 8: 4,
        PROTOCOL @ 12: 4,
        MARK @ 16: 4,
        PRIORITY @ 20: 4,
        SRC_IP4 @ 24: 4,
        SRC_IP6 @ 28: 16,
        SRC_PORT @ 44: 4,
        DST_PORT @ 48: 2,
        DST_IP4 @ 52: 4,
        DST_IP6 @ 56: 16,
        STATE @ 72: 4,
        RX_QUEUE_MAPPING @ 76: 4,
    }
    /// `struct bpf_tcp_sock`
    bpf_tcp_sock (112) {
        BYTES_RECEIVED @ 80: 8,
        BYTES_ACKED @ 88: 8,
        ICSK_RETRANSMITS @ 108: 4,
    }
    /// `struct bpf_xdp_sock`
    bpf_xdp_sock (4) {
        QUEUE_ID @ 0: 4,
    }
    /// `struct bpf_sock_addr`
    bpf_sock_addr (72) {
        USER_FAMILY @ 0: 4,
        USER_IP4 @ 4: 4,
        USER_IP6 @ 8: 16,
        USER_PORT @ 24: 4,
        FAMILY @ 28: 4,
        TYPE @ 32: 4,
        PROTOCOL @ 36: 4,
        MSG_SRC_IP4 @ 40: 4,
        MSG_SRC_IP6 @ 44: 16,
        SK @ 64: 8,
    }
    /// `struct bpf_sock_ops`
    bpf_sock_ops (224) {
        OP @ 0: 4,
        REPLY @ 4: 4,
        SK_TXHASH @ 164: 4,
        BYTES_RECEIVED @ 168: 8,
        BYTES_ACKED @ 176: 8,
        SK @ 184: 8,
        SKB_DATA @ 192: 8,
        SKB_DATA_END @ 200: 8,
        SKB_LEN @ 208: 4,
        SKB_TCP_FLAGS @ 212: 4,
        SKB_HWTSTAMP @ 216: 8,
    }
    /// `struct sk_msg_md`
    sk_msg_md (80) {
        DATA @ 0: 8,
        DATA_END @ 8: 8,
        FAMILY @ 16: 4,
        REMOTE_IP4 @ 20: 4,
        LOCAL_IP4 @ 24: 4,
        REMOTE_IP6 @ 28: 16,
        LOCAL_IP6 @ 44: 16,
        REMOTE_PORT @ 60: 4,
        LOCAL_PORT @ 64: 4,
        LEN @ 68: 4,
        SK @ 72: 8,
    }
    /// `struct sk_reuseport_md`
    sk_reuseport_md (56) {
        DATA @ 0: 8,
        DATA_END @ 8: 8,
        LEN @ 16: 4,
        ETH_PROTOCOL @ 20: 4,
        IP_PROTOCOL @ 24: 4,
        BIND_INANY @ 28: 4,
        HASH @ 32: 4,
        SK @ 40: 8,
        MIGRATING_SK @ 48: 8,
    }
    /// `struct bpf_sk_lookup`
    bpf_sk_lookup (72) {
        SK @ 0: 8,
        FAMILY @ 8: 4,
        PROTOCOL @ 12: 4,
        REMOTE_IP4 @ 16: 4,
        REMOTE_IP6 @ 20: 16,
        REMOTE_PORT @ 36: 2,
        LOCAL_IP4 @ 40: 4,
        LOCAL_IP6 @ 44: 16,
        LOCAL_PORT @ 60: 4,
        INGRESS_IFINDEX @ 64: 4,
    }
    /// `struct bpf_sysctl`
    bpf_sysctl (8) {
        WRITE @ 0: 4,
        FILE_POS @ 4: 4,
    }
    /// `struct bpf_sockopt`
    bpf_sockopt (40) {
        SK @ 0: 8,
        OPTVAL @ 8: 8,
        OPTVAL_END @ 16: 8,
        LEVEL @ 24: 4,
        OPTNAME @ 28: 4,
        OPTLEN @ 32: 4,
        RETVAL @ 36: 4,
    }
    /// `struct bpf_cgroup_dev_ctx`
    bpf_cgroup_dev_ctx (12) {
        ACCESS_TYPE @ 0: 4,
    }
    /// `struct pt_regs` of x86-64, also `bpf_user_pt_regs_t`.
    pt_regs (168) {
    }
    /// `struct bpf_perf_event_data`
    bpf_perf_event_data (184) {
        SAMPLE_PERIOD @ 168: 8,
        ADDR @ 176: 8,
    }
    /// `struct bpf_flow_keys`
    bpf_flow_keys (56) {
    }
    /// `struct bpf_nf_ctx`: two pointers, of a `struct nf_hook_state` and of a `struct sk_buff`.
    bpf_nf_ctx (16) {
        STATE @ 0: 8,
        SKB @ 8: 8,
    }
}
