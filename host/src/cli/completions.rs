//! `vq-host completions`.

use clap::Args;

pub(super) const EXAMPLES: &str = "Examples:
  vq-host completions bash >> ~/.bash_completion
  vq-host completions fish > ~/.config/fish/completions/vq-host.fish
  vq-host completions zsh > ~/.zfunc/_vq-host";

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// Shell
    pub(crate) shell: clap_complete::Shell,
}
