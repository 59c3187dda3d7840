package jsonlogic

import (
	"encoding/json"
	"math"
)

// fractional is flagd's operator: it chooses one of its weighted values by the hash of a key. The first argument is the
// key, if it is text or null; otherwise the key is made of the flag's key and the caller's targeting key. Invalid
// arguments yield nil.
func fractional(r *run, in operands, data any) (any, error) {
	if len(in.items) == 0 {
		return nil, nil
	}
	shares := in.items
	key, ok := shares[0].(string)
	if ok || shares[0] == nil {
		shares = shares[1:]
	}
	var bucket uint32
	if ok {
		if !isObject(data) {
			return nil, nil
		}
		bucket = murmur3(key)
	} else {
		flag, caller, err := r.bucketKeys(data)
		if err != nil || caller == "" {
			return nil, err
		}
		if err := r.spend((len(flag) + len(caller)) / 64); err != nil {
			return nil, err
		}
		bucket = murmur3(flag + caller)
	}
	return chooseShare(bucket, shares), r.spend(len(shares) / 8)
}

func isObject(data any) bool {
	switch data.(type) {
	case root, map[string]any:
		return true
	}
	return false
}

// bucketKeys returns the flag's key and the targeting key in data.
func (r *run) bucketKeys(data any) (flag, caller string, err error) {
	if data, ok := data.(map[string]any); ok {
		caller, _ = data["targetingKey"].(string)
		flag, err = r.nestedFlagKey(data)
		return flag, caller, err
	}
	if _, ok := data.(root); !ok {
		return "", "", nil
	}
	v, theirs := r.lookUpData("targetingKey")
	if theirs {
		if v, err = r.toJSONValue(v); err != nil {
			return "", "", err
		}
	}
	caller, _ = v.(string)
	return r.FlagKey, caller, nil
}

// nestedFlagKey returns the flag's key in data that is an element of a list or reduce's scope.
func (r *run) nestedFlagKey(data map[string]any) (string, error) {
	v, ok := data["$flagd"]
	if !ok {
		return "", nil
	}
	if err := r.spendSize(v); err != nil {
		return "", err
	}
	text, err := json.Marshal(v)
	if err != nil {
		return "", nil // as in flagd
	}
	var properties struct {
		FlagKey   string `json:"flagKey"`
		Timestamp int64  `json:"timestamp"`
	}
	if json.Unmarshal(text, &properties) != nil {
		return "", nil
	}
	return properties.FlagKey, nil
}

// chooseShare returns the value whose share of the hash's range includes the bucket.
func chooseShare(bucket uint32, shares []any) any {
	total := int64(0)
	for _, share := range shares {
		weight, ok := weightOf(share)
		if !ok {
			return nil
		}
		total += weight
	}
	if total == 0 || total > math.MaxInt32 {
		return nil
	}
	at := int64(uint64(bucket) * uint64(total) >> 32)
	for _, share := range shares {
		weight, _ := weightOf(share)
		if at -= weight; at < 0 {
			return share.([]any)[0]
		}
	}
	return nil
}

// weightOf returns a share's weight: a share is a list of a value and a weight, by default 1. Negative weights count as
// 0.
func weightOf(share any) (int64, bool) {
	items, ok := share.([]any)
	if !ok || len(items) == 0 {
		return 0, false
	}
	switch items[0].(type) {
	case nil, bool, string, float64:
	default:
		return 0, false
	}
	if len(items) == 1 || items[1] == nil {
		return 1, true
	}
	weight, ok := items[1].(float64)
	if !ok || weight != math.Trunc(weight) || weight > math.MaxInt32 || weight < math.MinInt64 {
		return 0, false
	}
	return max(int64(weight), 0), true
}
