//! The ATerm form of a `.drv` file:
//! `Derive([outputs],[input derivations],[input sources],system,builder,[args],[env])`.

use std::collections::{BTreeMap, BTreeSet};

use super::{Derivation, DerivationOutput};
use crate::store_path::{StorePath, StorePathError};

/// Longest `.drv` file that is parsed, in bytes.
pub const MAX_ATERM: usize = 64 << 20;

/// A file that is no derivation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a derivation: {fault} at offset {offset}")]
pub struct AtermError {
    /// Where, in bytes.
    pub offset: usize,
    /// What is wrong.
    pub fault: AtermFault,
}

/// What is wrong with the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AtermFault {
    /// Something else, or the end of the file, where the format wants this.
    #[error("{0:?} expected")]
    Expected(&'static str),
    /// A string that does not end.
    #[error("a string that does not end")]
    OpenString,
    /// A string that has to be UTF-8.
    #[error("{0} that is not UTF-8")]
    NotUtf8(&'static str),
    /// A string that has to be a store path.
    #[error("{0}")]
    BadStorePath(StorePathError),
    /// Something that may be there once.
    #[error("{0} that is there twice")]
    Duplicate(&'static str),
    /// A derivation that depends on outputs of outputs, which is experimental in Nix.
    #[error("a dynamic derivation (DrvWithVersion), which is not supported,")]
    Dynamic,
    /// More than [`MAX_ATERM`].
    #[error("{0} bytes, and at most {MAX_ATERM} are accepted,")]
    TooLong(usize),
}

impl Derivation {
    /// Parses a `.drv` file.
    ///
    /// # Errors
    /// [`AtermError`], if it is not exactly one derivation, or a dynamic one.
    pub fn parse(aterm: &[u8]) -> Result<Self, AtermError> {
        if aterm.len() > MAX_ATERM {
            return Err(AtermError { offset: MAX_ATERM, fault: AtermFault::TooLong(aterm.len()) });
        }
        let mut parser = Parser { aterm, offset: 0 };
        let drv = parser.derivation().map_err(|(offset, fault)| AtermError { offset, fault })?;
        match parser.offset {
            offset if offset == aterm.len() => Ok(drv),
            offset => Err(AtermError { offset, fault: AtermFault::Expected("end of file") }),
        }
    }

    /// The content of a `.drv` file, byte for byte as Nix writes it.
    #[must_use]
    pub fn to_aterm(&self) -> Vec<u8> {
        let mut out = b"Derive(".to_vec();
        write_list(&mut out, &self.outputs, |out, (name, output)| {
            let path = output.path.as_ref().map_or("", StorePath::as_str);
            write_tuple(out, &[name.as_str(), path, &output.hash_algo, &output.hash]);
        });
        out.push(b',');
        write_list(&mut out, &self.input_drvs, |out, (path, outputs)| {
            out.push(b'(');
            write_string(out, path.as_str());
            out.push(b',');
            write_list(out, outputs, write_string);
            out.push(b')');
        });
        out.push(b',');
        write_list(&mut out, &self.input_srcs, |out, path| write_string(out, path.as_str()));
        out.push(b',');
        write_string(&mut out, &self.platform);
        out.push(b',');
        write_string(&mut out, &self.builder);
        out.push(b',');
        write_list(&mut out, &self.args, write_string);
        out.push(b',');
        write_list(&mut out, &self.env, |out, (key, value)| write_tuple(out, &[key, value]));
        out.push(b')');
        out
    }
}

fn write_list<T>(
    out: &mut Vec<u8>,
    items: impl IntoIterator<Item = T>,
    mut write: impl FnMut(&mut Vec<u8>, T),
) {
    out.push(b'[');
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(out, item);
    }
    out.push(b']');
}

fn write_tuple(out: &mut Vec<u8>, strings: &[impl AsRef<[u8]>]) {
    let start = out.len();
    write_list(out, strings, write_string);
    out[start] = b'(';
    out.pop();
    out.push(b')');
}

fn write_string(out: &mut Vec<u8>, string: impl AsRef<[u8]>) {
    out.push(b'"');
    for byte in string.as_ref() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            byte => out.push(*byte),
        }
    }
    out.push(b'"');
}

/// Where, and what is wrong.
type Fault = (usize, AtermFault);

struct Parser<'a> {
    aterm: &'a [u8],
    offset: usize,
}

impl<'a> Parser<'a> {
    fn derivation(&mut self) -> Result<Derivation, Fault> {
        if self.rest().starts_with(b"DrvWithVersion(") {
            return Err((self.offset, AtermFault::Dynamic));
        }
        self.expect("Derive(")?;
        let outputs = self.outputs()?;
        self.expect(",")?;
        let input_drvs = self.input_drvs()?;
        self.expect(",")?;
        let input_srcs = self.set("an input source", Self::store_path)?;
        self.expect(",")?;
        let platform = self.text("a system")?;
        self.expect(",")?;
        let builder = self.string()?;
        self.expect(",")?;
        let mut args = Vec::new();
        self.list(|parser| {
            args.push(parser.string()?);
            Ok(())
        })?;
        self.expect(",")?;
        let env = self.env()?;
        self.expect(")")?;
        Ok(Derivation { outputs, input_drvs, input_srcs, platform, builder, args, env })
    }

    fn outputs(&mut self) -> Result<BTreeMap<String, DerivationOutput>, Fault> {
        let mut outputs = BTreeMap::new();
        self.list(|parser| {
            let offset = parser.offset;
            parser.expect("(")?;
            let name = parser.text("the name of an output")?;
            parser.expect(",")?;
            let path = match parser.rest().starts_with(b"\"\"") {
                true => parser.expect("\"\"").map(|()| None)?,
                false => Some(parser.store_path()?),
            };
            parser.expect(",")?;
            let hash_algo = parser.text("a hash algorithm")?;
            parser.expect(",")?;
            let hash = parser.text("a hash")?;
            parser.expect(")")?;
            let output = DerivationOutput { path, hash_algo, hash };
            once(offset, "an output", outputs.insert(name, output).is_none())
        })?;
        Ok(outputs)
    }

    fn input_drvs(&mut self) -> Result<BTreeMap<StorePath, BTreeSet<String>>, Fault> {
        let mut drvs = BTreeMap::new();
        self.list(|parser| {
            let offset = parser.offset;
            parser.expect("(")?;
            let path = parser.store_path()?;
            parser.expect(",")?;
            let text = |parser: &mut Self| parser.text("the name of an output");
            let names = parser.set("the name of an output", text)?;
            parser.expect(")")?;
            once(offset, "an input derivation", drvs.insert(path, names).is_none())
        })?;
        Ok(drvs)
    }

    fn env(&mut self) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Fault> {
        let mut env = BTreeMap::new();
        self.list(|parser| {
            let offset = parser.offset;
            parser.expect("(")?;
            let key = parser.string()?;
            parser.expect(",")?;
            let value = parser.string()?;
            parser.expect(")")?;
            once(offset, "a variable", env.insert(key, value).is_none())
        })?;
        Ok(env)
    }

    fn set<T: Ord>(
        &mut self,
        what: &'static str,
        item: impl Fn(&mut Self) -> Result<T, Fault>,
    ) -> Result<BTreeSet<T>, Fault> {
        let mut set = BTreeSet::new();
        self.list(|parser| {
            let offset = parser.offset;
            let item = item(parser)?;
            once(offset, what, set.insert(item))
        })?;
        Ok(set)
    }

    fn list(&mut self, mut item: impl FnMut(&mut Self) -> Result<(), Fault>) -> Result<(), Fault> {
        self.expect("[")?;
        if self.rest().starts_with(b"]") {
            return self.expect("]");
        }
        loop {
            item(self)?;
            if !self.rest().starts_with(b",") {
                return self.expect("]");
            }
            self.offset += 1;
        }
    }

    fn store_path(&mut self) -> Result<StorePath, Fault> {
        let offset = self.offset;
        let path = self.text("a store path")?;
        StorePath::try_from(path).map_err(|error| (offset, AtermFault::BadStorePath(error)))
    }

    fn text(&mut self, what: &'static str) -> Result<String, Fault> {
        let offset = self.offset;
        String::from_utf8(self.string()?).map_err(|_| (offset, AtermFault::NotUtf8(what)))
    }

    fn string(&mut self) -> Result<Vec<u8>, Fault> {
        let open = (self.offset, AtermFault::OpenString);
        self.expect("\"")?;
        let mut string = Vec::new();
        loop {
            let rest = self.rest();
            let Some(plain) = rest.iter().position(|c| matches!(c, b'"' | b'\\')) else {
                return Err(open);
            };
            string.extend_from_slice(&rest[..plain]);
            self.offset += plain + 1;
            if rest[plain] == b'"' {
                return Ok(string);
            }
            let Some(escaped) = rest.get(plain + 1) else { return Err(open) };
            string.push(match escaped {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                byte => *byte,
            });
            self.offset += 1;
        }
    }

    fn expect(&mut self, token: &'static str) -> Result<(), Fault> {
        if !self.rest().starts_with(token.as_bytes()) {
            return Err((self.offset, AtermFault::Expected(token)));
        }
        self.offset += token.len();
        Ok(())
    }

    fn rest(&self) -> &'a [u8] {
        &self.aterm[self.offset..]
    }
}

fn once(offset: usize, what: &'static str, is_new: bool) -> Result<(), Fault> {
    if is_new { Ok(()) } else { Err((offset, AtermFault::Duplicate(what))) }
}
