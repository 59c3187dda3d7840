package plan

// What tests compare with.
const (
	ClockTolerance = clockTolerance
	MaxBoots       = maxBoots
	MaxMarks       = maxMarks
)

var EncodeHead = encodeHead
