package jsonlogic

// Bucket gives the bucket, 0 to total-1, that fractional has for a key when its weights add up to total.
func Bucket(key string, total uint32) uint32 {
	return uint32(uint64(murmur3(key)) * uint64(total) >> 32)
}
