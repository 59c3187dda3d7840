package debug

// Protocol is the protocol to which both ends of a session upgrade their connections: SSH between the ends.
const Protocol = "sluice-ssh"

// Headers of sessions. Each is JSON in base64.
const (
	HostKeyHeader = "Sluice-Host-Key" // a HostKey
	SealHeader    = "Sluice-Seal"     // a SignedSeal
)

// RecordType is the media type of records.
const RecordType = "application/x-asciicast"

// Bounds of records.
const (
	MaxRecord = 256 << 20 // bytes
	MaxPacked = 64 << 20  // bytes of a record, compressed
)

// AgentPath is where a cell's agent comes for a session of a request.
func AgentPath(request string) string { return "/v1/debug/" + request }

// PersonPath is where the person comes.
func PersonPath(cell, request string) string { return "/v1/cells/" + cell + "/debug/" + request }

// RecordPath is where a cell's agent sends the session's seal and record.
func RecordPath(request string) string { return AgentPath(request) + "/record" }
