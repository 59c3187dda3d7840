//go:build race

package child

// RaceDetector reports whether this program has the race detector.
const RaceDetector = true
