//! Compiles the window description in `ui/` to Rust.

fn main() {
    // One style on every system, so that the window looks the same everywhere.
    // Element names are needed by the window tests and left out of releases.
    let tests_need_names = std::env::var("PROFILE").is_ok_and(|profile| profile == "debug");
    let configuration = slint_build::CompilerConfiguration::new()
        .with_style("fluent".into())
        .with_debug_info(tests_need_names);
    slint_build::compile_with_config("ui/app.slint", configuration).expect("compile ui/app.slint");
}
