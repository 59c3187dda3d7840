package objects

import (
	"encoding/binary"
	"fmt"
)

// deltaSizes reads the head of a delta: the sizes of its base and its result.
func deltaSizes(delta []byte) (base, result uint64, rest []byte, err error) {
	base, n := binary.Uvarint(delta)
	if n <= 0 {
		return 0, 0, nil, fmt.Errorf("%w: delta without a base size", ErrCorrupt)
	}
	result, m := binary.Uvarint(delta[n:])
	if m <= 0 {
		return 0, 0, nil, fmt.Errorf("%w: delta without a result size", ErrCorrupt)
	}
	return base, result, delta[n+m:], nil
}

// applyDelta makes the object that delta describes against base (gitformat-pack, "Deltified representation").
func applyDelta(base, delta []byte, limit int64) ([]byte, error) {
	from, to, d, err := deltaSizes(delta)
	if err != nil {
		return nil, err
	}
	if from != uint64(len(base)) {
		return nil, fmt.Errorf("%w: delta against another base", ErrCorrupt)
	}
	if to > uint64(limit) {
		return nil, fmt.Errorf("%w: %d bytes, the limit is %d", ErrTooLarge, to, limit)
	}
	out := make([]byte, 0, to)
	for len(d) > 0 {
		op := d[0]
		d = d[1:]
		var part []byte
		switch {
		case op&0x80 != 0:
			if part, d, err = decodeCopy(base, op, d); err != nil {
				return nil, err
			}
		case op != 0 && int(op) <= len(d):
			part, d = d[:op], d[op:]
		default:
			return nil, fmt.Errorf("%w: delta ends early", ErrCorrupt)
		}
		if len(out)+len(part) > cap(out) {
			return nil, fmt.Errorf("%w: delta makes more than it says", ErrCorrupt)
		}
		out = append(out, part...)
	}
	if uint64(len(out)) != to {
		return nil, fmt.Errorf("%w: delta makes less than it says", ErrCorrupt)
	}
	return out, nil
}

func decodeCopy(base []byte, op byte, d []byte) (part, rest []byte, err error) {
	var v [7]byte // four bytes of offset and three of size, each present if op has its bit
	for i := range v {
		if op&(1<<i) == 0 {
			continue
		}
		if len(d) == 0 {
			return nil, nil, fmt.Errorf("%w: delta ends early", ErrCorrupt)
		}
		v[i], d = d[0], d[1:]
	}
	offset := uint64(binary.LittleEndian.Uint32(v[:4]))
	size := uint64(v[4]) | uint64(v[5])<<8 | uint64(v[6])<<16
	if size == 0 {
		size = 0x10000
	}
	if offset+size > uint64(len(base)) {
		return nil, nil, fmt.Errorf("%w: delta copies from beyond its base", ErrCorrupt)
	}
	return base[offset : offset+size], d, nil
}

// makeDelta describes data by the beginning and the end that it shares with base, which suffices for one changed entry
// of a large tree.
func makeDelta(base, data []byte) []byte {
	n := min(len(base), len(data))
	head := 0
	for head < n && base[head] == data[head] {
		head++
	}
	tail := 0
	for tail < n-head && base[len(base)-1-tail] == data[len(data)-1-tail] {
		tail++
	}
	d := binary.AppendUvarint(nil, uint64(len(base)))
	d = binary.AppendUvarint(d, uint64(len(data)))
	d = appendCopy(d, 0, head)
	for mid := data[head : len(data)-tail]; len(mid) > 0; {
		n := min(len(mid), 127)
		d = append(append(d, byte(n)), mid[:n]...)
		mid = mid[n:]
	}
	return appendCopy(d, len(base)-tail, tail)
}

func appendCopy(d []byte, offset, size int) []byte {
	for size > 0 {
		n := min(size, 0xffff)
		d = append(d, 0x80|0x0f|0x30, byte(offset), byte(offset>>8), byte(offset>>16), byte(offset>>24), byte(n),
			byte(n>>8))
		offset, size = offset+n, size-n
	}
	return d
}
