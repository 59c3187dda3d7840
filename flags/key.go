package flags

// CheckKey tells what is wrong with a flag's key; nil: nothing. No definition may have another.
func CheckKey(key string) error { return checkKey(key) }
