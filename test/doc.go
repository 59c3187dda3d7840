// Package test checks properties of the whole module: the direction of imports, a comment for each package, a test for
// each fault. It also holds the acceptance tests, which run the built binary, real git and real processes, and kill
// them. It consists of tests only; no package imports it, and tests with t.Parallel run at once.
//
// SLUICE_SEED and SLUICE_KILLS determine when, and how often, the kill test kills; the test logs its seed.
package test
