//! x
#[derive(Debug, clap::Args)] pub(crate) struct BenchArgs {} pub(crate) fn run(_: &BenchArgs) -> anyhow::Result<std::process::ExitCode> { anyhow::bail!("x") }
