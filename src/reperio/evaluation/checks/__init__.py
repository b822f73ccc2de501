"""The checks, one function each: a `Subject` in, a `CheckResult` out; docs/gate.md says when each is red."""
