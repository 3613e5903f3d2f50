//! What a plugin's library exports.

use crate::abi_stable;

/// Exports quantizers from a `cdylib`: `export_plugin!(Lattice)`, or with their extensions
/// `export_plugin!(Pq: Scorer + Search, Opq: Scorer)`. Defines `plugin()`, which a test hands to
/// [`conformance::check`](crate::conformance::check).
#[macro_export]
macro_rules! export_plugin {
    ($($quantizer:ty $(: $first:ident $(+ $more:ident)*)?),+ $(,)?) => {
        /// This plugin's table, the one [`vq_plugin_entry_v1`] answers.
        pub fn plugin() -> &'static $crate::abi::VqPlugin {
            static PLUGIN: ::std::sync::OnceLock<&'static $crate::abi::VqPlugin> =
                ::std::sync::OnceLock::new();
            PLUGIN.get_or_init(|| $crate::adapter::plugin(::std::vec![
                $( $crate::adapter::method::<
                    $quantizer,
                    $crate::export_plugin!(@offers $($first $($more)*)?),
                >() ),+
            ]))
        }

        $crate::export_plugin!(@symbols);
    };
    (@offers) => { () };
    (@offers $first:ident $($more:ident)*) => {
        ($crate::extension::offered::$first, $crate::export_plugin!(@offers $($more)*))
    };
    (@symbols) => {
        #[doc(hidden)]
        mod vq_plugin_symbols {
            #[unsafe(no_mangle)]
            extern "C" fn vq_plugin_entry_v1(
                host_major: u32,
                _host_minor: u32,
            ) -> *const $crate::abi::VqPlugin {
                if host_major == $crate::abi::ABI_MAJOR { super::plugin() } else { ::core::ptr::null() }
            }

            extern "C" fn table() -> *const $crate::abi::VqPlugin { super::plugin() }

            fn root() -> $crate::abi::VqRootRef {
                use $crate::abi_stable::prefix_type::PrefixTypeTrait;
                $crate::abi::VqRoot { plugin: table }.leak_into_prefix()
            }

            // What #[export_root_module] writes, but for its paths: it names `::abi_stable`, which
            // an author's crate does not depend on.
            extern "C" fn erased_root() -> $crate::abi_stable::library::RootModuleResult {
                $crate::abi_stable::library::__call_root_module_loader(root)
            }

            #[unsafe(export_name = "_1as_0lib_1header_0root_bmodule_bloader")]
            static HEADER: $crate::abi_stable::library::LibHeader =
                // SAFETY: `erased_root` answers a VqRootRef, as the type parameter says.
                unsafe {
                    $crate::abi_stable::library::LibHeader::from_constructor::<$crate::abi::VqRootRef>(
                        erased_root,
                        $crate::abi_stable::library::CheckTypeLayout::Yes,
                    )
                };
        }
    };
}

// A host would take a plugin with another name for one without a layout to check.
const _: () = {
    let (ours, theirs) = (
        b"_1as_0lib_1header_0root_bmodule_bloader",
        abi_stable::library::ROOT_MODULE_LOADER_NAME.as_bytes(),
    );
    assert!(ours.len() == theirs.len(), "abi_stable looks for another symbol");
    let mut i = 0;
    while i < ours.len() {
        assert!(ours[i] == theirs[i], "abi_stable looks for another symbol");
        i += 1;
    }
};
