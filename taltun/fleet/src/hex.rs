//! Bytes as hexadecimal digits in small letters, of which each text is the only one.

/// The digits.
pub fn encode(bytes: &[u8]) -> String {
    let mut digits = vec![0; 2 * bytes.len()];
    let text = base16ct::lower::encode_str(bytes, &mut digits);
    text.expect("there are two digits for each byte").to_owned()
}

/// The bytes of exactly `2 N` small digits.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    let read = base16ct::lower::decode(text, &mut bytes).ok()?;
    (read.len() == N).then_some(bytes)
}

/// Fields of records that are arrays of bytes.
pub mod field {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    /// Writes the digits.
    pub fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::encode(bytes))
    }

    /// Reads them.
    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<[u8; N], D::Error> {
        let text = String::deserialize(deserializer)?;
        super::decode(&text)
            .ok_or_else(|| Error::custom(format_args!("expected {} small hex digits", 2 * N)))
    }
}
