package jsonlogic

// Bucket returns the bucket, 0 to total-1, that the operator fractional computes for a key when its weights add up to
// total.
func Bucket(key string, total uint32) uint32 {
	return uint32(uint64(murmur3(key)) * uint64(total) >> 32)
}
