//! Data: what may be given where an operation takes bytes.
//!
//! Owned bytes are taken without a copy, borrowed ones are copied. `Into<Bytes>` would be the obvious bound, but it takes
//! borrowed bytes only if they are static, and arrays not at all.

use bytes::Bytes;

/// Bytes of a caller: owned ones are taken over, borrowed ones copied.
pub trait IntoData {
    /// The bytes.
    fn into_data(self) -> Bytes;
}

impl IntoData for Bytes {
    fn into_data(self) -> Bytes {
        self
    }
}

impl IntoData for &Bytes {
    fn into_data(self) -> Bytes {
        self.clone()
    }
}

impl IntoData for Vec<u8> {
    fn into_data(self) -> Bytes {
        self.into()
    }
}

impl IntoData for &Vec<u8> {
    fn into_data(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl IntoData for &[u8] {
    fn into_data(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl<const N: usize> IntoData for &[u8; N] {
    fn into_data(self) -> Bytes {
        Bytes::copy_from_slice(self)
    }
}

impl<const N: usize> IntoData for [u8; N] {
    fn into_data(self) -> Bytes {
        Bytes::copy_from_slice(&self)
    }
}

impl IntoData for String {
    fn into_data(self) -> Bytes {
        self.into()
    }
}

impl IntoData for &String {
    fn into_data(self) -> Bytes {
        Bytes::copy_from_slice(self.as_bytes())
    }
}

impl IntoData for &str {
    fn into_data(self) -> Bytes {
        Bytes::copy_from_slice(self.as_bytes())
    }
}
