"""What vulture may not call dead: names that are reached by something other than Python code. Never imported or run.

Each line is ``_.name`` with the reason beside it. Members of the tables of the specifications are here as well: a table
of status codes is complete or it is wrong, whether or not each code is raised.
"""
# ruff: noqa: B018, N801, SLF001


class _:
    """Stands for any object."""


# Tables of the specifications: SEV API 55766, SEV-SNP firmware ABI 56860, APM volume 2.
_.ALREADY_OWNED
_.INVALID_CERTIFICATE
_.INVALID_COMMAND
_.HWERROR_PLATFORM
_.HWERROR_UNSAFE
_.RESOURCE_LIMIT
_.SECURE_DATA_INVALID
_.INVALID_MDATA_ENTRY
_.AEAD_OFLOW
_.RMP_INIT_REQUIRED
_.DOMAIN
_.NOKS
_.GP
_.SVSM_CAA
_.FAIL_INUSE
_.POLICY_MIGRATE_MA
_.POLICY_SMT
_.POLICY_SINGLE_SOCKET
_.ALTERNATE_INJECTION
_.DEBUG_SWAP
_.REFLECT_VC
_.SNP_ACTIVE
_.VTOM
_.REG_PROT
_.dbg_encrypt  # the command machine is complete, whether or not an attack needs a command
# Fields that a caller reads by name or that are part of a saved document.
_.bandwidth
_.max_leaf
_.linkname
# Requests to the mock's SoC process, dispatched by name.
_._plant
_._holds
_._get
# Called by click and by testinfra.
_.format_commands
_.__getattr__
_.NAME
_.SevkitBackend
_.ContainerBackend
# Handlers of the operations of a parsed expression, found by the operation's name (memory/search/required.py).
_._literal
_._not_literal
_._any
_._in
_._subpattern
_._atomic_group
_._branch
_.chips  # FakeKds: what tests of users read

# Called by importlib.
_.get_code
