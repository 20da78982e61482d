"""The commands by name. Each lives in a file of its own and is imported only when it is called."""

# command -> (module, one line of help): kept here so that `sevkit --help` imports no command.
COMMANDS: dict[str, tuple[str, str]] = {
    "probe": ("sevkit.cli.probe", "What this CPU and host can do for encrypted guests, and why not."),
    "attack": ("sevkit.cli.attack", "Run the attacks, and see what each mode stops."),
    "lab": ("sevkit.cli.lab", "The exercises of the course, checked by experiment."),
    "guest": ("sevkit.cli.guest", "Launch and use guests in every mode."),
    "top": ("sevkit.cli.top", "The running guests, live: mode, processor, memory by class."),
    "scan": ("sevkit.cli.scan", "Search the memory of a process or a core file for secrets."),
    "memory": ("sevkit.cli.memory", "Guest memory as a picture, and as a file."),
    "measure": ("sevkit.cli.attestation.measure", "The launch digest that a guest will report, and why one differs."),
    "report": ("sevkit.cli.attestation.report", "Attestation reports: every field, and whether to believe them."),
    "tcb": ("sevkit.cli.attestation.tcb", "Which published attacks apply to a host, a guest and its policy."),
    "bench": ("sevkit.cli.bench", "Benchmarks whose numbers can be believed."),
    "emulator": ("sevkit.cli.emulator", "Build and inspect the memory-encrypting QEMU."),
    "container": ("sevkit.cli.container", "Run sevkit in a container."),
    "doctor": ("sevkit.cli.doctor", "What works here as this user, and what is missing for the rest."),
    "report-check": ("sevkit.cli.report_check", "Recompute what an HTML report says, and check its signature."),
    "completion": ("sevkit.cli.completion", "The completion script of bash, zsh or fish."),
    "schema": ("sevkit.cli.schema", "The JSON Schema of what a command prints with --json."),
}
