package flags

import (
	"bytes"
	"encoding/json"
	"math/big"
	"strconv"
	"strings"
)

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

// RoundedNumber returns the first whole number in a JSON text that whoever reads it rounds, since it is beyond 2^53,
// such as a long id; empty: there is none, or the text is no JSON.
func RoundedNumber(text []byte) string {
	if !json.Valid(text) {
		return ""
	}
	tokens := json.NewDecoder(bytes.NewReader(text))
	tokens.UseNumber()
	for {
		token, err := tokens.Token()
		if err != nil {
			return ""
		}
		number, ok := token.(json.Number)
		if !ok || strings.ContainsAny(number.String(), ".eE") {
			continue
		}
		written, _ := new(big.Int).SetString(number.String(), 10)
		float, err := strconv.ParseFloat(number.String(), 64)
		if err != nil { // beyond all numbers
			return number.String()
		}
		if read, _ := big.NewFloat(float).Int(nil); read.Cmp(written) != 0 {
			return number.String()
		}
	}
}
