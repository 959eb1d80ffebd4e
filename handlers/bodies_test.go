package handlers

import (
	"bytes"
	"io"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// TestSignedBodiesTakeLittleMemory reads bodies at and around the size of each class, after larger ones were released.
// Each must be read completely, into a buffer of at most about twice its size.
func TestSignedBodiesTakeLittleMemory(t *testing.T) {
	var lengths []int
	for class := range bodies {
		for _, near := range []int{-1, 0, 1, 511, 512, 513} {
			if n := firstRead<<class + near; n <= maxBodyBytes {
				lengths = append(lengths, n)
			}
		}
	}
	for _, length := range append(lengths, 0, 1, maxBodyBytes) {
		large, err := readSigned(io.LimitReader(endless{}, maxBodyBytes))
		require.NoError(t, err)
		require.Len(t, large, maxBodyBytes)
		releaseBody(large)
		sent := bytes.Repeat([]byte("0123456789abcde"), length/15+1)[:length]
		for name, reader := range map[string]io.Reader{
			"at once":     bytes.NewReader(sent),
			"by halves":   iotest.HalfReader(bytes.NewReader(sent)),
			"end at once": iotest.DataErrReader(bytes.NewReader(sent)),
		} {
			body, err := readSigned(reader)
			require.NoError(t, err, name)
			require.True(t, bytes.Equal(sent, body), "%s: %d bytes", name, length)
			require.LessOrEqual(t, cap(body), max(firstRead+512, 2*length+512), name)
			releaseBody(body)
		}
	}
	_, err := readSigned(iotest.TimeoutReader(iotest.OneByteReader(bytes.NewReader([]byte("ab")))))
	require.ErrorIs(t, err, iotest.ErrTimeout)
	require.False(t, releaseBody(make([]byte, 0, 10)), "it is not from a pool")
	require.GreaterOrEqual(t, cap(takeBody(0)), firstRead)
}

// endless is a body that never ends.
type endless struct{}

// Read implements io.Reader.
func (endless) Read(p []byte) (int, error) { return len(p), nil }
