//! Checks that the processor can run this binary.

/// Checks that the processor has the x86-64-v3 instructions that the binary is built for, so that an older processor gets an explanation
/// instead of an illegal instruction.
///
/// # Errors
/// An instruction set is missing; the message names it and says what to do.
#[cfg(target_arch = "x86_64")]
pub fn check() -> Result<(), String> {
    let missing: Vec<&str> =
        [("avx2", is_x86_feature_detected!("avx2")), ("fma", is_x86_feature_detected!("fma")), ("bmi2", is_x86_feature_detected!("bmi2"))]
            .into_iter()
            .filter_map(|(name, there)| (!there).then_some(name))
            .collect();
    match missing.is_empty() {
        true => Ok(()),
        false => Err(format!(
            "this binary is built for x86-64-v3 processors (2013 and later), and this one lacks {}; remove the `rustflags` line in .cargo/config.toml and build again (quantised models will be 5 to 10 times slower)",
            missing.join(", ")
        )),
    }
}

/// Accepts every processor of another architecture.
///
/// # Errors
/// None.
#[cfg(not(target_arch = "x86_64"))]
pub fn check() -> Result<(), String> {
    Ok(())
}

/// Returns the name of the widest vector instructions that the kernels can use here.
pub fn vector_instructions() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    return if is_x86_feature_detected!("avx512f") { "AVX-512" } else { "AVX2" };
    #[cfg(not(target_arch = "x86_64"))]
    return std::env::consts::ARCH;
}
