//! A state is read as the type that it is written as.
//~ name one type in `into` and in `from` or `try_from`

#[millstream::record]
#[serde(into = "u64", from = "u32")]
struct Number(u64);

impl From<Number> for u64 {
    fn from(number: Number) -> Self {
        number.0
    }
}

impl From<u32> for Number {
    fn from(number: u32) -> Self {
        Self(number.into())
    }
}

fn main() {}
