//! Browser (WebDriver), egress proxy, http fetch.

pub mod browser;
pub mod egress;
pub mod fetch;
pub mod plain;
