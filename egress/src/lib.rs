//! The way out: whatever Davy asks or tells another server goes through [`HttpClient`], to an address that
//! [`Names`] lets through.
//!
//! Scrapes, discovery, remote write and remote sources keep their connections; receivers and actuators take a new one
//! for each request. Credentials and TLS are one [`HttpConfig`] for all of them.

mod address;
mod client;
mod config;

pub use address::{EgressError, Names, check_url};
pub use client::{ClientError, HttpClient, causes, describe, secret_header};
pub use config::{Auth, HttpConfig, Secret, TlsConfig};
