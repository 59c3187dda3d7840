package flags

// Context is what a caller says of itself: OpenFeature's evaluation context, flattened, "targetingKey" among the rest.
// Values are as encoding/json gives them, or any of Go's integers.
type Context map[string]any

// Reason says why a flag has its value: OpenFeature's words, as flagd gives them.
type Reason string

// Reasons.
const (
	ReasonStatic   Reason = "STATIC"          // the default variant of a flag without rules
	ReasonDefault  Reason = "DEFAULT"         // the rules chose none; without a Variant, the caller's own default counts
	ReasonMatch    Reason = "TARGETING_MATCH" // the rules chose it
	ReasonDisabled Reason = "DISABLED"        // the caller's own default counts
	ReasonError    Reason = "ERROR"           // see Result.Error
)

// ErrorCode is OpenFeature's, as flagd gives it. Empty: none.
type ErrorCode string

// Error codes.
const (
	ErrorFlagNotFound   ErrorCode = "FLAG_NOT_FOUND"
	ErrorParse          ErrorCode = "PARSE_ERROR"   // the rule can't be evaluated with this context
	ErrorTypeMismatch   ErrorCode = "TYPE_MISMATCH" // the value is not of the type that was asked for
	ErrorGeneral        ErrorCode = "GENERAL"       // the rule chose a variant that there is not
	ErrorInvalidContext ErrorCode = "INVALID_CONTEXT"
)

// Result is what a flag evaluates to. Its value and metadata are shared: nobody may change them.
type Result struct {
	Value    any    // as encoding/json gives it; nil if the caller's own default counts
	Variant  string // empty: none
	Reason   Reason
	Error    ErrorCode // empty unless Reason is ReasonError
	Message  string    // of an error, for people
	Metadata map[string]any
}
