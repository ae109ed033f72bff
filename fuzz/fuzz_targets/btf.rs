//! BTF as user space loads it and as kernels bring it, and everything that is asked of it later.
#![no_main]

use bpftwin::btf::{
    BTF_MAX_SIZE, Btf, BtfType, FuncArgsQuery, MapValue, btf_is_prog_ctx_type, btf_prepare_func_args,
};
use bpftwin::verifier::log::{Log, LogSink, VecSink};
use bpftwin::verifier::reg_type::RegType;
use bpftwin_fuzz::format::log_size;
use bpftwin_fuzz::world::WORLD;
use bpftwin_uapi::{MapType, ProgType};
use libfuzzer_sys::fuzz_target;

/// Types of a large object that are looked at.
const TYPES_MAX: u32 = 500;

fuzz_target!(|input: &[u8]| {
    let [how, log, blob @ ..] = input else { return };
    if blob.len() > BTF_MAX_SIZE {
        return;
    }
    let blob = blob.to_vec();
    let mut quiet = Log::disabled();
    match how & 3 {
        0 | 1 => {
            let size = log_size(log >> 4).min(1 << 24);
            let sink = VecSink::default();
            let boxed = (log & 15 != 0).then(|| Box::new(sink.clone()) as Box<dyn LogSink>);
            let Ok(mut listing) = Log::new((log & 15).into(), if log & 15 == 0 { 0 } else { size }, boxed)
            else {
                return;
            };
            let with_kernel = how & 1 != 0;
            let parsed = Btf::parse(blob, &mut listing, &|| WORLD.vmlinux.clone().filter(|_| with_kernel));
            let _ = listing.finalize();
            assert!(
                sink.0.lock().is_ok_and(|bytes| bytes.len() <= size as usize),
                "the log overflows its buffer"
            );
            if let Ok(btf) = parsed {
                walk(&btf, &mut quiet);
            }
        }
        2 => {
            if let Some(btf) = Btf::from_kernel_bytes(blob, "vmlinux", None) {
                walk(&btf, &mut quiet);
            }
        }
        _ => {
            let base = Some(WORLD.blob_btf.clone());
            if let Some(btf) = Btf::from_kernel_bytes(blob, "module", base) {
                walk(&btf, &mut quiet);
            }
        }
    }
});

/// Asks for all that there is to know.
fn walk(btf: &Btf, quiet: &mut Log) {
    let ids = 0..btf.nr_types().saturating_add(2).min(TYPES_MAX);
    for t in ids.clone().filter_map(|id| btf.type_by_id(id)) {
        let name = btf.type_name(&t).into_owned();
        let _ =
            (btf.find_by_name_kind(&name, t.kind()), btf.find_struct(&name), btf.display_name(t.name_off));
        let _ = (btf.skip_modifiers(t.id).id, btf.skip_qualifiers(t.id).id);
        let _ = (btf.resolve_ptr(t.id).map(|t| t.id), btf.resolve_func_ptr(t.id).map(|t| t.id));
        if !btf.is_kernel() {
            let _ = btf.type_id_size(t.id).map(|(t, _)| t.id);
        }
        let _ = btf.resolve_size(t).map(|resolved| resolved.total_nelems);
        let _ = btf.find_decl_tag_value(t.id, -1, "contains:");
        let _ = btf.nested_type_is_trusted(t.id, t.name_off, t.id, "__safe_rcu");
        if t.is_ptr() {
            for prog_type in [ProgType::Kprobe, ProgType::Xdp, ProgType::PerfEvent] {
                btf_is_prog_ctx_type(quiet, btf, &t, prog_type, true);
            }
        }
        if t.is_struct() || t.is_datasec() {
            aggregate(btf, &t, quiet);
        }
        if t.is_func() {
            function(btf, &t, quiet);
        }
    }
}

fn aggregate(btf: &Btf, t: &BtfType<'_>, quiet: &mut Log) {
    for (off, size) in [(0, 8), (4, 4), (16, 1), (t.size().wrapping_sub(8), 8), (u32::MAX, 8)] {
        let _ = btf.struct_access(quiet, RegType::PTR_TO_BTF_ID, t.id, off, size);
        btf.struct_ids_match(quiet, t.id, off, (btf, t.id.wrapping_add(1)), false);
    }
    for member in if t.is_struct() { t.members().take(64).collect() } else { Vec::new() } {
        let _ = (t.member_bit_offset(&member), t.member_bitfield_size(&member));
        if !btf.is_kernel() {
            btf.member_is_reg_int(t, &member, 0, 4);
        }
    }
    if btf.is_kernel() {
        return;
    }
    for map_type in [MapType::Array, MapType::Hash, MapType::SkStorage, MapType::PercpuHash] {
        let map = MapValue { map_type, value_size: t.size(), map_flags: 0, bpf_capable: true };
        let _ = btf.map_record(t, &map, &|| WORLD.vmlinux.clone()).map(|record| record.is_some());
    }
}

fn function(btf: &Btf, t: &BtfType<'_>, quiet: &mut Log) {
    for prog_type in [ProgType::SchedCls, ProgType::Kprobe, ProgType::Tracing, ProgType::StructOps] {
        let query = FuncArgsQuery {
            btf,
            vmlinux: WORLD.vmlinux.as_deref(),
            type_id: t.id,
            subprog: 1,
            linkage: t.func_linkage(),
            unreliable: false,
            prog_type,
            expected_attach_type: 0,
        };
        let _ = btf_prepare_func_args(&query, quiet);
    }
}
