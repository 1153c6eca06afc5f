//! The entry is a function.

//~ error: #[millstream::main] belongs on a function
//~ `fn job(env: &mut Environment, args: Args) -> Result<()>`

#[millstream::main]
struct Job;

fn main() {}
