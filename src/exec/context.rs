//! What loads from the context yield: numbers, the packet, sockets and other objects.

use bpftwin_uapi::insn::{BPF_ADD, BPF_AND, BPF_SUB};

use super::inputs::{Origin, Range};
use super::machine::{Exec, Machine};
use super::memory::{RegionId, RegionKind, Value};
use crate::progs::layout::{bpf_flow_keys, bpf_sock, bpf_tcp_sock, bpf_xdp_sock};
use crate::verifier::reg_type::RegType;

/// Sizes of packets and their metadata.
const PACKET_SIZES: Range = Range::new(0, 0xffff);
const META_SIZES: Range = Range::new(0, 255);
/// Accesses to buffers go at most this far.
const BUFFER_SIZE: i64 = 1 << 30;

/// What a program sees of a socket of this type: the structure, and its bytes.
fn socket_layout(reg_type: RegType) -> Option<(&'static str, i32)> {
    Some(match reg_type.base() {
        RegType::PTR_TO_SOCKET | RegType::PTR_TO_SOCK_COMMON => ("bpf_sock", bpf_sock::SIZE),
        RegType::PTR_TO_TCP_SOCK => ("bpf_tcp_sock", bpf_tcp_sock::SIZE),
        RegType::PTR_TO_XDP_SOCK => ("bpf_xdp_sock", bpf_xdp_sock::SIZE),
        _ => return None,
    })
}

impl Machine<'_> {
    /// A load of `size` bytes that the program type allows, which yields a `reg_type`.
    pub(super) fn load_ctx(&mut self, off: i64, size: u8, reg_type: RegType) -> Exec<Value> {
        match reg_type.base() {
            RegType::SCALAR_VALUE => return self.read_memory(self.context, off, size),
            RegType::PTR_TO_PACKET => {
                let packet = self.packet()?;
                return Ok(self.pointer_to(packet, 0));
            }
            RegType::PTR_TO_PACKET_END => {
                let packet = self.packet()?;
                let start = Value { region: None, ..self.pointer_to(packet, 0) };
                let term = self.terms.alu(BPF_ADD, 0, true, start, self.packet_size);
                return Ok(Value { term, ..self.pointer_to(packet, self.region(packet).end) });
            }
            RegType::PTR_TO_PACKET_META => {
                let packet = self.packet()?;
                return Ok(self.meta_start(packet));
            }
            _ => {}
        }
        if let Some(&pointer) = self.ctx_pointers.get(&off) {
            return Ok(pointer);
        }
        let mut choice = Value::scalar(1);
        if reg_type.may_be_null() {
            let origin = Origin::Memory { region: RegionKind::Context, off, size };
            choice = self.ask(origin, Range::CHOICE);
        }
        let mut pointer = choice;
        if choice.bits != 0 {
            pointer = match reg_type.base() {
                RegType::PTR_TO_BTF_ID => self.kernel_object(),
                RegType::PTR_TO_FLOW_KEYS => {
                    let keys = self.new_region(RegionKind::FlowKeys, 0, bpf_flow_keys::SIZE.into())?;
                    self.pointer_to(keys, 0)
                }
                RegType::PTR_TO_TP_BUFFER | RegType::PTR_TO_BUF => {
                    let kind = RegionKind::Buffer { field: off as i32 };
                    let buffer = self.new_region(kind, 0, BUFFER_SIZE)?;
                    self.region_mut(buffer).writable = !reg_type.is_rdonly_mem();
                    self.pointer_to(buffer, 0)
                }
                _ => self.socket(reg_type)?,
            };
            pointer.term = choice.term;
        }
        self.ctx_pointers.insert(off, pointer);
        Ok(pointer)
    }

    /// A socket of this type, which is not null.
    pub(super) fn socket(&mut self, reg_type: RegType) -> Exec<Value> {
        let Some((name, size)) = socket_layout(reg_type) else {
            return self.unsupported(format!("pointers of type {:#x}", reg_type.0));
        };
        let kind = RegionKind::Socket { insn: self.pc, nth: self.nth(), name };
        let socket = self.new_region(kind, 0, size.into())?;
        self.region_mut(socket).writable = false;
        Ok(self.pointer_to(socket, 0))
    }

    /// The packet as it is now.
    pub(super) fn packet(&mut self) -> Exec<RegionId> {
        if let Some(packet) = self.packet {
            return Ok(packet);
        }
        let number = self.packets_before;
        self.packet_size = self.ask(Origin::PacketSize { packet: number }, PACKET_SIZES);
        let end = self.packet_size.bits as i64;
        let packet = self.new_region(RegionKind::Packet { packet: number }, 0, end)?;
        self.packet = Some(packet);
        Ok(packet)
    }

    /// Where the metadata in front of the packet begins.
    fn meta_start(&mut self, packet: RegionId) -> Value {
        if let Some(start) = self.meta_start {
            return start;
        }
        let size = self.ask(Origin::MetaSize { packet: self.packets_before }, META_SIZES);
        let size = self.terms.with(BPF_AND, size, !3);
        let data = Value { region: None, ..self.pointer_to(packet, 0) };
        let term = self.terms.alu(BPF_SUB, 0, true, data, size);
        let off = -(size.bits as i64);
        self.region_mut(packet).start = off;
        let start = Value { term, ..self.pointer_to(packet, off) };
        self.meta_start = Some(start);
        start
    }

    /// The packet may have changed: pointers into it are worth nothing from here on.
    pub(super) fn packet_changed(&mut self) {
        if let Some(packet) = self.packet.take() {
            self.region_mut(packet).live = false;
        }
        self.meta_start = None;
        self.packets_before = self.packets_before.saturating_add(1);
        // Fields that programs cannot write, such as the length, may have another value now.
        let context = self.context;
        if self.program.ctx_is_skb() {
            self.region_mut(context).forget(0, 4);
        }
    }
}
