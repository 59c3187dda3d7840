// Package distribution has nothing: its module fixes the version of the OCI distribution specification's conformance
// suite, which TestPullsConform in test builds and runs.
package distribution
