//! Instructions as text: `kernel/bpf/disasm.c`, written straight to the log.

use bpftwin_uapi::HelperId;
use bpftwin_uapi::insn::*;

use super::Verifier;
use super::log::Log;
use crate::btf::Btf;

const ALU: [&str; 16] =
    ["+=", "-=", "*=", "/=", "|=", "&=", "<<=", ">>=", "neg", "%=", "^=", "=", "s>>=", "endian", NULL, NULL];
const JMP: [&str; 16] =
    ["jmp", "==", ">", ">=", "&", "!=", "s>", "s>=", "call", "exit", "<", "<=", "s<", "s<=", NULL, NULL];
const LDST: [&str; 4] = ["u32", "u16", "u8", "u64"];
const LDSX: [&str; 4] = ["s32", "s16", "s8", NULL];
/// What the kernel's `printk` prints for an operation without a name.
const NULL: &str = "(null)";

// `off` of the register moves that are address conversions.
const ADDR_SPACE_CAST: i16 = 1;
const ADDR_PERCPU: i16 = -1;

impl Verifier {
    /// Logs one instruction and the end of its line: `verbose_insn`.
    pub fn verbose_insn(&mut self, idx: u32) {
        if self.log.level != 0 {
            let btf = self.btf_vmlinux.as_deref();
            print_bpf_insn(&mut self.log, &self.prog.insns, idx as usize, self.allow_ptr_leaks, btf);
        }
    }
}

/// Name of a helper, `unknown` where there is none: `func_id_name`.
pub fn func_id_name(id: i32) -> FuncName {
    FuncName(u32::try_from(id).ok().and_then(HelperId::from_u32))
}

/// A helper's name as the log prints it.
#[derive(Clone, Copy)]
pub struct FuncName(Option<HelperId>);

impl std::fmt::Display for FuncName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(id) => write!(f, "bpf_{}", id.name()),
            None => f.write_str("unknown"),
        }
    }
}

/// Logs instruction `idx`: `print_bpf_insn`. Addresses of maps are hidden without `allow_ptr_leaks`; kernel functions have
/// their names from `btf`.
pub fn print_bpf_insn(log: &mut Log, insns: &[Insn], idx: usize, allow_ptr_leaks: bool, btf: Option<&Btf>) {
    let Some(&insn) = insns.get(idx) else { return };
    let p = &mut Printer { log, insn, btf };
    match insn.class() {
        BPF_ALU | BPF_ALU64 => p.alu(),
        BPF_STX => p.stx(),
        BPF_ST => p.st(),
        BPF_LDX => p.ldx(),
        BPF_LD => p.ld(insns.get(idx + 1).copied().unwrap_or_default(), allow_ptr_leaks),
        _ => p.jmp(),
    }
    p.log.push_byte(b'\n');
}

/// Writes the pieces of one instruction.
struct Printer<'a> {
    log: &'a mut Log,
    insn: Insn,
    btf: Option<&'a Btf>,
}

impl Printer<'_> {
    fn text(&mut self, text: &str) -> &mut Self {
        self.log.push(text);
        self
    }

    fn num(&mut self, value: i64) -> &mut Self {
        self.log.push_i64(value);
        self
    }

    /// `(%02x) `
    fn code(&mut self) -> &mut Self {
        self.log.push_byte(b'(');
        self.log.push_hex_digits(u64::from(self.insn.code), 2);
        self.log.push(") ");
        self
    }

    /// `r` or `w` and the number.
    fn reg(&mut self, prefix: u8, regno: u8) -> &mut Self {
        self.log.push_byte(prefix);
        self.log.push_u64(u64::from(regno));
        self
    }

    fn dst(&mut self) -> &mut Self {
        self.reg(b'r', self.insn.dst_reg())
    }

    fn src(&mut self) -> &mut Self {
        self.reg(b'r', self.insn.src_reg())
    }

    /// `BUG_...%02x`
    fn bug(&mut self, prefix: &str) {
        let code = u64::from(self.insn.code);
        self.text(prefix).log.push_hex_digits(code, 2);
    }

    /// ` goto pc%+d`
    fn target(&mut self, text: &str, off: i32) {
        self.text(text).text("pc").log.push_i64_signed(i64::from(off));
    }

    fn size_name(&self) -> &'static str {
        LDST[usize::from(self.insn.size() >> 3)]
    }

    /// `*(%s *)(r%d %+d)`
    fn mem(&mut self, size: &str, regno: u8) -> &mut Self {
        self.text("*(");
        self.address(size, regno)
    }

    /// `%s *)(r%d %+d)`, behind an opening bracket.
    fn address(&mut self, size: &str, regno: u8) -> &mut Self {
        self.text(size).text(" *)(").reg(b'r', regno).text(" ");
        self.log.push_i64_signed(i64::from(self.insn.off));
        self.text(")")
    }

    fn alu(&mut self) {
        let insn = self.insn;
        let wide = insn.class() == BPF_ALU64;
        let prefix = if wide { b'r' } else { b'w' };
        let mov_reg = insn.code == BPF_ALU64 | BPF_MOV | BPF_X;
        self.code();
        match insn.op() {
            BPF_END => {
                let order = match (wide, insn.src()) {
                    (true, _) => "bswap",
                    (false, BPF_TO_BE) => "be",
                    _ => "le",
                };
                self.dst().text(" = ").text(order).num(i64::from(insn.imm)).text(" ").dst();
            }
            BPF_NEG => {
                self.reg(prefix, insn.dst_reg()).text(" = -").reg(prefix, insn.dst_reg());
            }
            _ if mov_reg && insn.off == ADDR_SPACE_CAST => {
                let (to, from) = (insn.imm as u32 >> 16, insn.imm as u16);
                self.dst().text(" = addr_space_cast(").src().text(", ").num(i64::from(to));
                self.text(", ").num(i64::from(from)).text(")");
            }
            _ if mov_reg && insn.off == ADDR_PERCPU => {
                self.dst().text(" = &(void __percpu *)(").src().text(")");
            }
            op => {
                self.reg(prefix, insn.dst_reg()).text(" ");
                if matches!(op, BPF_DIV | BPF_MOD) && insn.off == 1 {
                    self.text("s");
                }
                self.text(ALU[usize::from(op >> 4)]).text(" ");
                if insn.src() == BPF_X {
                    if op == BPF_MOV {
                        self.text(match insn.off {
                            8 => "(s8)",
                            16 => "(s16)",
                            32 => "(s32)",
                            _ => "",
                        });
                    }
                    self.reg(prefix, insn.src_reg());
                } else {
                    self.num(i64::from(insn.imm));
                }
            }
        }
    }

    fn stx(&mut self) {
        let insn = self.insn;
        let size = self.size_name();
        match insn.mode() {
            BPF_MEM => {
                self.code().mem(size, insn.dst_reg()).text(" = ").src();
            }
            BPF_ATOMIC => self.atomic(size),
            _ => self.bug("BUG_"),
        }
    }

    fn atomic(&mut self, size: &str) {
        const ADD: i32 = BPF_ADD as i32;
        const AND: i32 = BPF_AND as i32;
        const OR: i32 = BPF_OR as i32;
        const XOR: i32 = BPF_XOR as i32;
        let insn = self.insn;
        let width = if insn.size() == BPF_DW { "64" } else { "" };
        match insn.imm {
            ADD | AND | OR | XOR => {
                self.code().text("lock ").mem(size, insn.dst_reg()).text(" ");
                self.text(ALU[(insn.imm >> 4) as usize & 0xf]).text(" ").src();
            }
            BPF_CMPXCHG => {
                self.code().text("r0 = atomic").text(width).text("_cmpxchg((");
                self.address(size, insn.dst_reg()).text(", r0, ").src().text(")");
            }
            BPF_XCHG => {
                self.code().src().text(" = atomic").text(width).text("_xchg((");
                self.address(size, insn.dst_reg()).text(", ").src().text(")");
            }
            BPF_LOAD_ACQ => {
                self.code().dst().text(" = load_acquire((");
                self.address(size, insn.src_reg()).text(")");
            }
            BPF_STORE_REL => {
                self.code().text("store_release((");
                self.address(size, insn.dst_reg()).text(", ").src().text(")");
            }
            fetch => {
                let name = match fetch & !BPF_FETCH {
                    ADD if fetch & BPF_FETCH != 0 => "add",
                    AND if fetch & BPF_FETCH != 0 => "and",
                    OR if fetch & BPF_FETCH != 0 => "or",
                    XOR if fetch & BPF_FETCH != 0 => "xor",
                    _ => return self.bug("BUG_"),
                };
                self.code().src().text(" = atomic").text(width).text("_fetch_").text(name).text("((");
                self.address(size, insn.dst_reg()).text(", ").src().text(")");
            }
        }
    }

    fn st(&mut self) {
        let insn = self.insn;
        match insn.mode() {
            BPF_MEM => {
                let size = self.size_name();
                self.code().mem(size, insn.dst_reg()).text(" = ").num(i64::from(insn.imm));
            }
            // BPF_NOSPEC has this mode.
            BPF_ATOMIC => {
                self.code().text("nospec");
            }
            _ => self.bug("BUG_st_"),
        }
    }

    fn ldx(&mut self) {
        let insn = self.insn;
        let size = match insn.mode() {
            BPF_MEM => self.size_name(),
            BPF_MEMSX => LDSX[usize::from(insn.size() >> 3)],
            _ => return self.bug("BUG_ldx_"),
        };
        self.code().dst().text(" = ").mem(size, insn.src_reg());
    }

    fn ld(&mut self, next: Insn, allow_ptr_leaks: bool) {
        let insn = self.insn;
        let size = self.size_name();
        match insn.mode() {
            BPF_ABS => {
                self.code().text("r0 = *(").text(size).text(" *)skb[").num(i64::from(insn.imm)).text("]");
            }
            BPF_IND => {
                self.code().text("r0 = *(").text(size).text(" *)skb[").src();
                self.text(" + ").num(i64::from(insn.imm)).text("]");
            }
            BPF_IMM if insn.size() == BPF_DW => {
                let is_ptr = matches!(insn.src_reg(), BPF_PSEUDO_MAP_FD | BPF_PSEUDO_MAP_VALUE);
                let imm = u64::from(next.imm as u32) << 32 | u64::from(insn.imm as u32);
                let imm = if is_ptr && !allow_ptr_leaks { 0 } else { imm };
                self.code().dst().text(" = 0x").log.push_hex_digits(imm, 1);
            }
            _ => self.bug("BUG_ld_"),
        }
    }

    fn jmp(&mut self) {
        let insn = self.insn;
        let prefix = if insn.class() == BPF_JMP32 { b'w' } else { b'r' };
        self.code();
        match insn.op() {
            BPF_CALL if insn.src_reg() == BPF_PSEUDO_CALL => self.target("call ", insn.imm),
            BPF_CALL => self.call(),
            BPF_JA if insn.code == BPF_JMP | BPF_JA => self.target("goto ", i32::from(insn.off)),
            BPF_JCOND if insn.code == BPF_JMP | BPF_JCOND && insn.src_reg() == BPF_MAY_GOTO => {
                self.target("may_goto ", i32::from(insn.off));
            }
            BPF_JA if insn.code == BPF_JMP32 | BPF_JA => self.target("gotol ", insn.imm),
            BPF_EXIT if insn.code == BPF_JMP | BPF_EXIT => {
                self.text("exit");
            }
            op => {
                self.text("if ").reg(prefix, insn.dst_reg()).text(" ");
                self.text(JMP[usize::from(op >> 4)]).text(" ");
                if insn.src() == BPF_X {
                    self.reg(prefix, insn.src_reg());
                } else {
                    self.text("0x").log.push_hex_digits(u64::from(insn.imm as u32), 1);
                }
                self.target(" goto ", i32::from(insn.off));
            }
        }
    }

    /// A call of a helper or of a kernel function.
    fn call(&mut self) {
        let insn = self.insn;
        let helper = if insn.src_reg() == 0 { func_id_name(insn.imm).0 } else { None };
        self.text("call ");
        match helper {
            Some(id) => self.text("bpf_").text(id.name()),
            None if insn.src_reg() == BPF_PSEUDO_KFUNC_CALL => {
                let func = self.btf.map(|btf| btf.type_name(&btf.type_or_void(insn.imm as u32)));
                self.text(func.as_deref().unwrap_or("kernel-function"))
            }
            None => self.text("unknown"),
        };
        self.text("#").num(i64::from(insn.imm));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verifier::log::VecSink;

    fn text(insns: &[Insn]) -> String {
        let sink = VecSink::default();
        let mut log = Log::new(1, 4096, Some(Box::new(sink.clone()))).unwrap();
        print_bpf_insn(&mut log, insns, 0, true, None);
        log.finalize().1.unwrap();
        sink.text()
    }

    #[test]
    fn every_kind_of_instruction() {
        for (code, dst, src, off, imm, expected) in [
            (0xbf, 1, 2, 0, 0, "(bf) r1 = r2"),
            (0xbc, 1, 2, 8, 0, "(bc) w1 = (s8)w2"),
            (0xbf, 1, 2, 32, 0, "(bf) r1 = (s32)r2"),
            (0xbf, 1, 2, 1, 1, "(bf) r1 = addr_space_cast(r2, 0, 1)"),
            (0x37, 3, 0, 1, -7, "(37) r3 s/= -7"),
            (0x9c, 3, 4, 1, 0, "(9c) w3 s%= w4"),
            (0x87, 3, 0, 0, 0, "(87) r3 = -r3"),
            (0xd4, 3, 0, 0, 16, "(d4) r3 = le16 r3"),
            (0xdc, 3, 0, 0, 64, "(dc) r3 = be64 r3"),
            (0xd7, 3, 0, 0, 32, "(d7) r3 = bswap32 r3"),
            (0x7b, 10, 1, -8, 0, "(7b) *(u64 *)(r10 -8) = r1"),
            (0x62, 10, 0, -4, -1, "(62) *(u32 *)(r10 -4) = -1"),
            (0x71, 0, 1, 3, 0, "(71) r0 = *(u8 *)(r1 +3)"),
            (0x89, 0, 1, 3, 0, "(89) r0 = *(s16 *)(r1 +3)"),
            (0xdb, 1, 2, 0, 0, "(db) lock *(u64 *)(r1 +0) += r2"),
            (0xdb, 1, 2, 0, 0x51, "(db) r2 = atomic64_fetch_and((u64 *)(r1 +0), r2)"),
            (0xc3, 1, 2, 0, 0xf1, "(c3) r0 = atomic_cmpxchg((u32 *)(r1 +0), r0, r2)"),
            (0xdb, 1, 2, 0, 0xe1, "(db) r2 = atomic64_xchg((u64 *)(r1 +0), r2)"),
            (0xd3, 1, 2, 4, 0x100, "(d3) r1 = load_acquire((u8 *)(r2 +4))"),
            (0xcb, 1, 2, 4, 0x110, "(cb) store_release((u16 *)(r1 +4), r2)"),
            (0xcb, 1, 2, 4, 0x120, "BUG_cb"),
            (0x28, 0, 0, 0, 12, "(28) r0 = *(u16 *)skb[12]"),
            (0x50, 0, 7, 0, -2, "(50) r0 = *(u8 *)skb[r7 + -2]"),
            (0x18, 1, 0, 0, -1, "(18) r1 = 0x7ffffffff"),
            (0x85, 0, 0, 0, 1, "(85) call bpf_map_lookup_elem#1"),
            (0x85, 0, 0, 0, 7777, "(85) call unknown#7777"),
            (0x85, 0, 1, 0, 5, "(85) call pc+5"),
            (0x05, 0, 0, -3, 0, "(05) goto pc-3"),
            (0x06, 0, 0, 0, 3, "(06) gotol pc+3"),
            (0xe5, 0, 0, 2, 0, "(e5) may_goto pc+2"),
            (0x95, 0, 0, 0, 0, "(95) exit"),
            (0x6e, 1, 2, 4, 0, "(6e) if w1 s> w2 goto pc+4"),
            (0x55, 1, 0, 4, -1, "(55) if r1 != 0xffffffff goto pc+4"),
        ] {
            let insns = [Insn::new(code, dst, src, off, imm), Insn::new(0, 0, 0, 0, 7)];
            assert_eq!(text(&insns), format!("{expected}\n"));
        }
    }
}
