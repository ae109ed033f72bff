//! Packet data: bounds checks in every form, and accesses behind them.

use bpftwin_uapi::ProgType;
use bpftwin_uapi::insn::*;

use super::scalar::size_bits;
use super::{Class, Generator, Kind};

impl Generator<'_> {
    pub(super) fn may_write_packet(&self) -> bool {
        matches!(
            self.profile.prog_type,
            ProgType::SchedCls
                | ProgType::SchedAct
                | ProgType::Xdp
                | ProgType::LwtXmit
                | ProgType::SkSkb
                | ProgType::SkMsg
                | ProgType::CgroupSockopt
        )
    }

    pub(super) fn packet(&mut self, depth: u32) {
        let Some(fields) = self.profile.packet else { return };
        let Some(ctx) = self.reg_where(|kind| kind == Kind::Ctx) else { return };
        let (data_field, end_field, class) = match fields.data_meta {
            Some(meta) if self.rng.chance(20) => (meta, fields.data, Class::Meta),
            _ => (fields.data, fields.data_end, Class::Packet),
        };
        let data = self.free_reg_but(&[ctx]);
        self.emit(BPF_LDX | BPF_MEM | size_bits(fields.size), data, ctx, data_field, 0);
        let id = self.new_id();
        self.set(data, Kind::Pkt);
        let end = self.free_reg_but(&[ctx, data]);
        self.emit(BPF_LDX | BPF_MEM | size_bits(fields.size), end, ctx, end_field, 0);
        self.set(end, Kind::PktEnd);
        if self.rng.chance(25) {
            // A variable part first.
            let limit = self.rng.pick(&[15, 63, 255, 4095, 0xffff]);
            let reg = self.bounded_scalar(limit);
            if reg != data && reg != end && self.kind(data) == Kind::Pkt && self.kind(end) == Kind::PktEnd {
                self.emit(BPF_ALU64 | BPF_ADD | BPF_X, data, reg, 0, 0);
            }
        }
        if self.kind(data) != Kind::Pkt || self.kind(end) != Kind::PktEnd {
            return;
        }
        let range = self.rng.pick(&[1, 2, 4, 8, 14, 20, 34, 54, 64]);
        let limit = self.free_reg_but(&[ctx, data, end]);
        self.mov(limit, data);
        self.emit(BPF_ALU64 | BPF_ADD | BPF_K, limit, 0, 0, range);
        // Which comparisons leave the pointer checked where they do not jump, and where they do.
        let (op, dst, src, good_falls_through) = match self.rng.below(8) {
            0 | 1 => (BPF_JGT, limit, end, true),
            2 => (BPF_JGE, limit, end, true),
            3 => (BPF_JLT, end, limit, true),
            4 => (BPF_JLE, end, limit, true),
            5 => (BPF_JLE, limit, end, false),
            6 => (BPF_JLT, limit, end, false),
            _ => (BPF_JGE, end, limit, false),
        };
        let at = self.insns.len();
        self.emit(BPF_JMP | op | BPF_X, dst, src, 0, 0);
        let checked = Kind::Mem { class, size: range, null: false, id };
        if good_falls_through {
            let before = self.model.clone();
            self.set(data, checked);
            self.packet_body(data, depth);
            self.patch(at);
            self.model.join(&before);
        } else {
            let before = self.model.clone();
            let over = self.insns.len();
            self.emit(BPF_JMP | BPF_JA, 0, 0, 0, 0);
            self.patch(at);
            self.set(data, checked);
            self.packet_body(data, depth);
            self.patch(over);
            self.model.join(&before);
        }
        for reg in [data, end, limit] {
            if !self.kind(reg).is_scalar() {
                self.set(reg, Kind::None);
            }
        }
    }

    fn packet_body(&mut self, data: u8, depth: u32) {
        for _ in 0..self.rng.range(1, 4) {
            self.mem_access_at(data);
        }
        if depth < 3 && self.rng.chance(50) {
            self.block(depth + 1);
        }
    }

    /// `BPF_LD_ABS` and `BPF_LD_IND`.
    pub(super) fn ld_abs(&mut self) {
        let able = matches!(
            self.profile.prog_type,
            ProgType::SocketFilter | ProgType::SchedCls | ProgType::SchedAct
        );
        if !able && !self.slip() || self.held > 0 {
            return;
        }
        if self.kind(6) != Kind::Ctx {
            let Some(ctx) = self.reg_where(|kind| kind == Kind::Ctx) else { return };
            if self.pinned & 1 << 6 != 0 {
                return;
            }
            self.mov(6, ctx);
        }
        let size = self.rng.pick(&[BPF_B, BPF_H, BPF_W]);
        let off = self.rng.range(0, 64) as i32;
        if self.rng.chance(50) {
            self.emit(BPF_LD | BPF_ABS | size, 0, 0, 0, off);
        } else {
            let reg = self.scalar_reg();
            self.emit(BPF_LD | BPF_IND | size, 0, reg, 0, off);
        }
        for reg in 1..6 {
            self.set(reg, Kind::None);
        }
        self.set(0, Kind::Scalar(None));
    }
}
