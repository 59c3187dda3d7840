package flags

import "encoding/json"

// TypedValue returns the value that somebody means by the text in NAME=VALUE of a context: what a cell's caller sends.
// The targeting key is text whatever it looks like, and so is a number that would not be printed as it is written, such
// as the version 1.10.
func TypedValue(name, text string) any {
	var value any
	if json.Unmarshal([]byte(text), &value) != nil || value == nil || name == "targetingKey" {
		return text
	}
	if number, ok := value.(float64); ok {
		if printed, err := json.Marshal(number); err != nil || string(printed) != text {
			return text
		}
	}
	return value
}
