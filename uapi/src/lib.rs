//! The user-space interface of bpf(2) as plain data: attribute unions, instructions, enumerations, BTF and
//! BCF wire structures. Nothing here decides anything; sizes, offsets and values are the kernel headers'.

pub mod attr;
pub mod bcf;
pub mod btf;
pub mod enums;
pub mod errno;
pub mod helper_id;
pub mod info;
pub mod insn;
mod layout;

/// Defines a structure that crosses the interface: C layout, no hidden padding, any bytes are a value.
macro_rules! wire {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$fmeta:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Default, bytemuck::Pod, bytemuck::Zeroable)]
        #[repr(C)]
        pub struct $name { $($(#[$fmeta])* pub $field: $ty,)* }
    };
}
pub(crate) use wire;

pub use enums::{AttachType, Cmd, LinkType, MapType, ProgType};
pub use errno::Errno;
pub use helper_id::HelperId;
pub use insn::Insn;

/// Defines a field-less enum over the numbers of a kernel enumeration, with the kernel's names.
#[doc(hidden)]
#[macro_export]
macro_rules! kernel_enum {
    ($(#[$doc:meta])* pub enum $name:ident { $($variant:ident = $value:literal $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
        #[repr(u32)]
        pub enum $name { $($variant = $value,)* }

        impl $name {
            /// Every known value, in numerical order.
            pub const ALL: &[$name] = &[$($name::$variant,)*];

            /// The value with this number, where this series of the kernel has one.
            pub const fn from_u32(value: u32) -> Option<Self> {
                match value {
                    $($value => Some($name::$variant),)*
                    _ => None,
                }
            }

            /// The kernel's name of the value.
            pub const fn name(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)*
                }
            }
        }
    };
}
