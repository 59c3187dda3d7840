//go:build race

package test

// raceDetector reports whether the tests, and so the binary, run with the race detector.
const raceDetector = true
