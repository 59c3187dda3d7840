package jsondoc

// FaultCode is a class of faults, for programs that show or correct faults. People read the message.
type FaultCode string

// The classes, which docs/formats.md lists. Each fault has one.
const (
	Syntax           FaultCode = "syntax"            // not YAML or JSON, or YAML that is not read
	Encoding         FaultCode = "encoding"          // not UTF-8, or characters that only some programs read
	UnknownField     FaultCode = "unknown-field"     // a field that no document of this kind has
	Duplicate        FaultCode = "duplicate"         // there twice, where once is allowed
	Missing          FaultCode = "missing"           // required, and not there or empty
	WrongType        FaultCode = "wrong-type"        // text where a number must be, say
	WrongValue       FaultCode = "wrong-value"       // of the right type, but not allowed
	WrongName        FaultCode = "wrong-name"        // a name that nothing may have, or nothing here
	TooLarge         FaultCode = "too-large"         // beyond a limit: in bytes, in number, in depth
	UnknownReference FaultCode = "unknown-reference" // refers to something that does not exist
	Conflict         FaultCode = "conflict"          // contradicts another field or file
	Unused           FaultCode = "unused"            // has no effect
	Immutable        FaultCode = "immutable"         // changed, and must stay as it was merged
	Forbidden        FaultCode = "forbidden"         // a release may not have it
	Secret           FaultCode = "secret"            // looks like a secret, and would be in git
	Unprotected      FaultCode = "unprotected"       // works, and believes more people than it need
	Unsigned         FaultCode = "unsigned"          // a commit lacks a signature that it needs
	Unreadable       FaultCode = "unreadable"        // can't be read at all
	Unconfirmed      FaultCode = "unconfirmed"       // waits until a person confirms it
)
