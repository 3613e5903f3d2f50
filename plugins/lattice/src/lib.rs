use vq_plugin_api as _; pub fn plugin() -> &'static vq_plugin_api::abi::VqPlugin { vq_plugin_api::adapter::plugin(vec![]) }
