//! Has Nix build an image.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use super::{FlashError, error::failed};

/// How images end that flakes of ours build.
const ENDING: &str = ".img.zst";

/// How deep below an output the image may be.
const MAX_DEPTH: u32 = 2;

/// Builds the image for a board from a flake, and gives its file. Nix tells of its progress on standard
/// error, which is ours.
///
/// # Errors
///
/// [`FlashError::Build`]: there is no Nix, the build failed, or it gave no image.
pub fn build(flake: &str, board: &str) -> Result<PathBuf, FlashError> {
    let installable = format!("{flake}#image-{board}");
    let mut nix = Command::new("nix");
    nix.args(["--extra-experimental-features", "nix-command flakes"])
        .args(["build", "--no-link", "--print-out-paths", "--", &installable])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    let output = nix.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => FlashError::Build(format!(
            "there is no nix on this machine to build {installable} with; give an image that was \
             built elsewhere: --image FILE"
        )),
        _ => FlashError::Build(format!("cannot start nix: {error}")),
    })?;
    if !output.status.success() {
        let status = output.status;
        return Err(FlashError::Build(format!(
            "nix did not build {installable} ({status}); its own messages say why. --flake names \
             another flake, and --image an image that was built elsewhere"
        )));
    }
    let printed = String::from_utf8_lossy(&output.stdout);
    image_in(printed.lines().map(Path::new), &installable)
}

/// The one image in the outputs.
fn image_in<'p>(
    outputs: impl Iterator<Item = &'p Path>,
    installable: &str,
) -> Result<PathBuf, FlashError> {
    let mut found = Vec::new();
    for output in outputs {
        collect(output, MAX_DEPTH, &mut found)?;
    }
    match <[PathBuf; 1]>::try_from(found) {
        Ok([image]) => Ok(image),
        Err(found) => Err(FlashError::Build(format!(
            "{installable} has {} files that end in {ENDING}, and not one; name the image with \
             --image",
            found.len()
        ))),
    }
}

fn collect(path: &Path, depth: u32, found: &mut Vec<PathBuf>) -> Result<(), FlashError> {
    if path.is_file() {
        let is_image = path.to_string_lossy().ends_with(ENDING);
        found.extend(is_image.then(|| path.to_owned()));
    } else if depth > 0 {
        for entry in fs::read_dir(path).map_err(failed("read", path))? {
            let entry = entry.map_err(failed("read", path))?;
            collect(&entry.path(), depth - 1, found)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[&str]) -> Result<String, String> {
        let output = tempfile::tempdir().unwrap();
        for file in files {
            let path = output.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        let image = image_in([output.path()].into_iter(), "x#image-y");
        let relative = |path: PathBuf| {
            path.strip_prefix(output.path()).unwrap().to_string_lossy().into_owned()
        };
        image.map(relative).map_err(|error| error.to_string())
    }

    #[test]
    fn the_one_image_of_an_output_is_found() {
        assert_eq!(found(&["a.img.zst", "a.img.zst.sha256"]), Ok("a.img.zst".to_owned()));
        let below = "sd-image/nixos.img.zst";
        assert_eq!(found(&[below, "nix-support/products"]), Ok(below.to_owned()));
        for files in [&[][..], &["a/b/c.img.zst"], &["a.img.zst", "b.img.zst"], &["a.img"]] {
            let error = found(files).unwrap_err();
            assert!(error.contains("x#image-y") && error.contains("--image"), "{error}");
        }
    }
}
