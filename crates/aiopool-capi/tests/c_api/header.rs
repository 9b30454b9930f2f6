//! `include/aiopool.h`: it is what `src/ffi` says, compiles as C and C++, and the library exports
//! what it declares. `cargo xtask bless` writes the committed files anew.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use aiopool_testing::{library, missing, root, run, scratch};

const PROLOGUE: &str = "\
/* aiopool: a process pool for tasks. The C API.
 *
 * Made from src/ffi by cbindgen; do not edit. See docs/c-api.md for a tour and ffi-examples/c for
 * programs.
 *
 * In all calls:
 * - Texts are UTF-8 and end with NUL. Sizes and lengths are bytes. Names of times end with their
 *   unit.
 * - `..._out` arguments are written only when a call returns AIOPOOL_OK.
 * - NULL is refused (AIOPOOL_ERR_NULL) unless the call's description accepts it.
 * - What a call lends is given back by the call that its description names.
 * - No panic or exception leaves a call.
 * - pthread_cancel leaves no call half done: a thread that is cancelled ends when the call returns.
 *   A call that waits for `timeout_ms` lets it end within a second and has then received nothing,
 *   and submitted no task but those before the one that it waited with. The type of cancellation
 *   is the deferred one, which is the default.
 */
#ifndef AIOPOOL_H
#define AIOPOOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What compilers can warn of: a pointer that is NULL where it must not be, a status that is not
 * read. Define AIOPOOL_NO_ATTRIBUTES to do without. */
#if defined(__GNUC__) && !defined(AIOPOOL_NO_ATTRIBUTES)
#define AIOPOOL_NONNULL(arguments) __attribute__((nonnull arguments))
#define AIOPOOL_CHECKED __attribute__((warn_unused_result))
#else
#define AIOPOOL_NONNULL(arguments)
#define AIOPOOL_CHECKED
#endif

#ifdef __cplusplus
extern \"C\" {
#endif
";

const EPILOGUE: &str = "
#ifdef __cplusplus
} /* extern \"C\" */
#endif

#endif /* AIOPOOL_H */
";

/// The files of `src/ffi` that are sections of the header, in their order.
fn sections() -> Vec<(String, String)> {
    let module = fs::read_to_string(root().join("src/ffi/mod.rs")).unwrap();
    let names = module.lines().filter_map(|line| line.strip_prefix("mod ")?.strip_suffix(';'));
    names
        .map(|name| {
            let path = root().join(format!("src/ffi/{name}.rs"));
            (name.to_owned(), fs::read_to_string(path).unwrap())
        })
        .filter(|(name, text)| {
            let parts = ["\nffi_fn! {", "\npub const ", "\n#[repr(C)]"];
            name != "boundary" && parts.iter().any(|part| text.contains(part))
        })
        .collect()
}

/// What cbindgen can read: it does not expand macros, so each `ffi_fn!` becomes what it makes.
fn expanded(text: &str) -> String {
    let mut lines = Vec::new();
    let mut inside = false;
    for line in text.lines() {
        let signature = line.starts_with("    fn aiopool_") || line.starts_with("    ) -> ");
        match line {
            "ffi_fn! {" | "handle! {" | "c_enum! {" => inside = true,
            _ if inside && line.starts_with("    pub enum ") => {
                let (name, int) = line.trim_end_matches(" {").split_once(": ").unwrap();
                lines.push(format!("#[repr({int})] {name} {{"));
            }
            // The short way of a function is before the long one, in one body.
            _ if inside && line.ends_with(" = at_once {") => {
                lines.push(line.replace(" = at_once {", " {"));
            }
            "    } waits => {" if inside => lines.push(";".to_owned()),
            // What a handle stands for is hidden from C.
            _ if inside && line.starts_with("    pub struct ") => {
                lines.push(format!("{}();", line.split('(').next().unwrap()));
            }
            "}" if inside => inside = false,
            // What a handle stands for is hidden from C here, too.
            "#[repr(transparent)]" => {}
            // `-> T = value_after_a_panic => {` becomes `-> T {`.
            _ if inside && signature && line.ends_with("=> {") => {
                lines.push(format!("{} {{", line.split(" = ").next().unwrap()));
            }
            _ => lines.push(line.to_owned()),
        }
    }
    let exported = "    #[unsafe(no_mangle)] pub unsafe extern \"C\" fn aiopool_";
    lines.join("\n").replace("    fn aiopool_", exported)
}

/// The names that `ffi_fn!` makes.
fn made_by_macro() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, text) in sections() {
        let mut rest = text.as_str();
        while let Some(at) = rest.find("\nffi_fn! {") {
            rest = &rest[at + 10..];
            let name = rest.split("    fn ").nth(1).unwrap().split('(').next().unwrap();
            names.insert(name.to_owned());
        }
    }
    names
}

fn render() -> String {
    let dir = scratch("header");
    let mut header = PROLOGUE.to_owned();
    for (name, text) in sections() {
        let source = dir.join(format!("{name}.rs"));
        fs::write(&source, expanded(&text)).unwrap();
        let config =
            cbindgen::Config::from_file(root().join("crates/aiopool-capi/cbindgen.toml")).unwrap();
        let bindings = cbindgen::Builder::new().with_config(config).with_src(&source).generate();
        let mut section = Vec::new();
        bindings.unwrap_or_else(|error| panic!("{name}: {error}")).write(&mut section);
        let section = String::from_utf8(section).unwrap();
        // The whole header has these lines once.
        let section = section
            .replace("#ifdef __cplusplus\nextern \"C\" {\n#endif // __cplusplus\n", "")
            .replace("#ifdef __cplusplus\n}  // extern \"C\"\n#endif  // __cplusplus\n", "");
        let story: Vec<&str> = text.lines().map_while(|line| line.strip_prefix("//!")).collect();
        header.push_str(
            "\n/* ---------------------------------------------------------------------\n",
        );
        story.iter().for_each(|line| header.push_str(&format!(" *{line}\n")));
        header.push_str(
            " * ------------------------------------------------------------------ */\n\n",
        );
        header.push_str(section.trim());
        header.push('\n');
        // What only C can say.
        let verbatim: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("//c ")).collect();
        if !verbatim.is_empty() {
            header.push_str(&format!("\n{}\n", verbatim.join("\n")));
        }
    }
    header.push_str(EPILOGUE);
    with_attributes(&header)
}

/// Pointers that may be NULL, as `function.argument` or an argument of every function; all others
/// have the attribute `nonnull`.
const NULLABLE: [&str; 24] = [
    "context",
    "user",
    "ticket_out",
    "tickets_out",
    "outcome",
    "aiopool_context_log_set.function",
    "aiopool_has_feature.name",
    "aiopool_loan_return.loan",
    "aiopool_log_set.function",
    "aiopool_output_write.data",
    "aiopool_pool_free.pool",
    "aiopool_pool_printed.text_out",
    "aiopool_pool_snapshot.json_out",
    "aiopool_pool_start.options",
    "aiopool_pool_workers.pids_out",
    "aiopool_process_free.process",
    "aiopool_process_name.process",
    "aiopool_process_start.name",
    "aiopool_process_start.options",
    "aiopool_task_defer.data",
    "aiopool_task_on_cancel.data",
    "aiopool_task_sleep.data",
    "aiopool_task_watch_fd.data",
    "aiopool_worker_complete.data",
];

/// Calls whose status may be left unread, since the program goes on in the same way.
const MAY_IGNORE: [&str; 14] = [
    "_release",
    "_return",
    "_free",
    "_close",
    "_terminate",
    "_kill",
    "_cancel",
    "_complete",
    "_set_error",
    "_output_write",
    "_init",
    "_shutdown",
    "_worker_fail",
    "_worker_leave",
];

/// Adds to each function what compilers know of its arguments and its status.
fn with_attributes(header: &str) -> String {
    let mut result = String::new();
    let mut rest = header;
    while let Some(end) = rest.find(");\n") {
        let (before, after) = rest.split_at(end);
        rest = &after[2..];
        let declaration = before.rsplit("\n\n").next().unwrap();
        let declaration = declaration.rsplit(" */\n").next().unwrap();
        let is_function = !declaration.starts_with("typedef") && declaration.contains("aiopool_");
        result.push_str(before);
        result.push(')');
        if is_function && let Some((head, arguments)) = declaration.split_once('(') {
            let name = head.rsplit([' ', '*']).next().unwrap();
            let is_required = |argument: &&str| {
                let own = argument.rsplit([' ', '*']).next().unwrap();
                let known = [own.to_owned(), format!("{name}.{own}")];
                argument.contains('*')
                    && !NULLABLE.iter().any(|null| known.contains(&(*null).to_owned()))
            };
            let required: Vec<String> = arguments
                .split(',')
                .enumerate()
                .filter(|(_, argument)| is_required(&argument.trim()))
                .map(|(at, _)| (at + 1).to_string())
                .collect();
            let mut known = Vec::new();
            if !required.is_empty() {
                known.push(format!("AIOPOOL_NONNULL(({}))", required.join(", ")));
            }
            if head.trim_start().starts_with("aiopool_status ")
                && !name.starts_with("aiopool_task_")
                && !MAY_IGNORE.iter().any(|end| name.ends_with(end))
            {
                known.push("AIOPOOL_CHECKED".to_owned());
            }
            if !known.is_empty() {
                result.push_str(&format!("\n    {}", known.join(" ")));
            }
        }
        result.push(';');
    }
    result.push_str(rest);
    result
}

fn check_committed(path: &str, now: &str) {
    let path = root().join(path);
    if std::env::var_os("AIOPOOL_BLESS").is_some() {
        fs::write(&path, now).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    if committed == now {
        return;
    }
    let line = committed.lines().zip(now.lines()).position(|(a, b)| a != b);
    panic!(
        "{} is not what the source says (line {:?} on): look at the difference, then write it \
         with cargo xtask bless",
        path.display(),
        line.map(|line| line + 1)
    );
}

#[test]
fn the_committed_header_is_what_the_source_says() {
    check_committed("include/aiopool.h", &render());
}

#[test]
fn the_header_compiles_as_c_and_as_cpp() {
    let dir = scratch("compile");
    let source = "#include \"aiopool.h\"\n#include \"aiopool.h\"\nint main(void) { return 0; }\n";
    for (compiler, standard, name) in
        [("cc", "c99", "h.c"), ("cc", "c11", "h.c"), ("c++", "c++17", "h.cpp")]
    {
        if missing(compiler) {
            continue;
        }
        let file = dir.join(name);
        fs::write(&file, source).unwrap();
        let include = root().join("include");
        run(Command::new(compiler)
            .arg(format!("-std={standard}"))
            .args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only", "-I"])
            .args([include, file]));
    }
}

/// The compiler's view of the header, as tools read it that know no preprocessor.
fn preprocessed() -> String {
    let mut compiler = Command::new("cc");
    compiler.args(["-E", "-P", "-DAIOPOOL_NO_ATTRIBUTES", "-I"]).arg(root().join("include"));
    let source = scratch("preprocessed").join("h.c");
    fs::write(&source, "#include \"aiopool.h\"\n").unwrap();
    let all = run(compiler.arg(source));
    let ours = all.find("typedef enum aiopool_").or_else(|| all.find("enum aiopool_"));
    let first = ours.into_iter().chain(all.find("uint32_t aiopool_version")).min();
    all[first.expect("the header declares something")..].to_owned()
}

#[test]
fn cffi_reads_the_header_and_calls_the_library() {
    let installed = || {
        let python = Command::new("python3").args(["-c", "import cffi"]).output();
        python.is_ok_and(|output| output.status.success())
    };
    if missing("cc") || missing("python3") {
        return;
    }
    if !installed() {
        assert!(std::env::var_os("AIOPOOL_CI").is_none(), "Python's cffi is not installed");
        eprintln!("skipped what needs Python's cffi, which is not installed");
        return;
    }
    let declarations = scratch("cffi").join("aiopool.i");
    fs::write(&declarations, preprocessed()).unwrap();
    let program = "import cffi, sys\n\
        ffi = cffi.FFI()\n\
        ffi.cdef(open(sys.argv[1]).read())\n\
        lib = ffi.dlopen(sys.argv[2])\n\
        assert lib.AIOPOOL_ERR_NULL == -1 and lib.AIOPOOL_OUTCOME_WORKER_LOST == 5\n\
        assert ffi.sizeof('aiopool_status') == 4 and ffi.sizeof('aiopool_kind') == 4\n\
        assert lib.aiopool_pool_fd(ffi.NULL, ffi.NULL) == lib.AIOPOOL_ERR_NULL\n\
        print(ffi.string(lib.aiopool_status_str(lib.AIOPOOL_ERR_FULL)).decode())\n";
    let said = run(Command::new("python3").args(["-c", program]).arg(declarations).arg(library()));
    assert_eq!(said, "the pool is full\n");
}

#[test]
fn swig_and_bindgen_read_the_header() {
    let dir = scratch("generators");
    let header = root().join("include/aiopool.h");
    if !missing("swig") {
        let interface = dir.join("aiopool.i");
        let text = "%module aiopool\n%include <stdint.i>\n%{\n#include \"aiopool.h\"\n%}\n\
                    #define AIOPOOL_NO_ATTRIBUTES\n%include \"aiopool.h\"\n";
        fs::write(&interface, text).unwrap();
        let mut swig = Command::new("swig");
        swig.args(["-python", "-outdir"]).arg(&dir).arg("-o").arg(dir.join("wrap.c"));
        run(swig.arg(format!("-I{}", root().join("include").display())).arg(&interface));
        let python = fs::read_to_string(dir.join("aiopool.py")).unwrap();
        assert!(python.contains("AIOPOOL_ERR_FULL") && python.contains("aiopool_pool_submit"));
    }
    if !missing("bindgen") {
        let rust =
            run(Command::new("bindgen").arg(header).args(["--default-enum-style", "newtype"]));
        assert!(rust.contains("aiopool_pool_submit") && rust.contains("AIOPOOL_ERR_FULL"));
    }
}

#[test]
fn every_exported_function_is_made_by_the_macro_and_listed() {
    let names = made_by_macro();
    assert!(names.len() > 40, "only {} functions were found", names.len());
    let list: String = names.iter().map(|name| format!("{name}\n")).collect();
    check_committed("crates/aiopool-capi/tests/abi/aiopool.symbols", &list);
    if missing("nm") {
        return;
    }
    let library = library();
    let output = run(Command::new("nm").args(["-D", "--defined-only"]).arg(library));
    let exported: BTreeSet<String> = output
        .lines()
        .filter_map(|line| line.split(" T ").nth(1))
        .filter(|name| name.starts_with("aiopool"))
        .map(str::to_owned)
        .collect();
    assert_eq!(exported, names, "{}", library.display());
}

#[test]
fn the_sizes_of_the_structs_are_the_listed_ones() {
    if missing("cc") {
        return;
    }
    let header = fs::read_to_string(root().join("include/aiopool.h")).unwrap();
    let structs: Vec<&str> = header
        .lines()
        .filter_map(|line| line.strip_prefix("typedef struct ")?.strip_suffix(" {"))
        .collect();
    assert!(!structs.is_empty());
    let dir = scratch("sizes");
    let mut program = "#include <stdio.h>\n#include \"aiopool.h\"\nint main(void) {\n".to_owned();
    for name in structs {
        program.push_str(&format!("printf(\"{name} %zu\\n\", sizeof({name}));\n"));
        let body = header.split(&format!("typedef struct {name} {{")).nth(1).unwrap();
        let body = body.split(&format!("}} {name};")).next().unwrap();
        let fields = body.lines().map(str::trim).filter(|line| !line.starts_with('*'));
        for field in fields.filter_map(|line| line.strip_suffix(';')) {
            let field = field.rsplit([' ', '*']).next().unwrap().split('[').next().unwrap();
            program.push_str(&format!(
                "printf(\"{name}.{field} %zu\\n\", offsetof({name}, {field}));\n"
            ));
        }
    }
    program.push_str("return 0; }\n");
    let source = dir.join("sizes.c");
    fs::write(&source, program).unwrap();
    let binary: PathBuf = dir.join("sizes");
    let include = root().join("include");
    run(Command::new("cc")
        .arg("-std=c11")
        .arg("-I")
        .arg(include)
        .arg(source)
        .arg("-o")
        .arg(&binary));
    check_committed("crates/aiopool-capi/tests/abi/aiopool.sizes", &run(&mut Command::new(binary)));
}
