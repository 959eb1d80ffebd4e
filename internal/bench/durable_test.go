package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// BenchmarkDurable measures the server with a data directory against the same server without one: one report a request at
// 64 and 256 connections, and 100 reports a request.
func BenchmarkDurable(b *testing.B) {
	for _, load := range []struct{ connections, size int }{{64, 1}, {256, 1}, {64, 100}} {
		b.Run(fmt.Sprintf("%d-a-request-at-%d-connections", load.size, load.connections), func(b *testing.B) {
			sessions := load.connections * load.size
			memory, durable := startServer(b), startServer(b, "DATA_DIR="+filepath.Join(b.TempDir(), "data"))
			of := requests(load.connections, sessions, load.size)
			const historyLimit = 100 // unless HISTORY_LIMIT says another
			fill(b, memory, sessions, historyLimit)
			fill(b, durable, sessions, historyLimit)
			ratio, reports := pairs(b,
				func() float64 { return rate(b, durable, of) * float64(load.size) },
				func() float64 { return rate(b, memory, of) * float64(load.size) })
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(ratio, "x_memory")
			b.ReportMetric(reports, "reports/s")
		})
	}
}

// BenchmarkOneConnection measures how long a durable report takes on one connection, against a write of as many bytes to a file
// that is synced, fdatasync(2), on the same disk.
func BenchmarkOneConnection(b *testing.B) {
	durable := startServer(b, "DATA_DIR="+filepath.Join(b.TempDir(), "data"))
	of := requests(1, 1, 1)
	file, err := os.Create(filepath.Join(b.TempDir(), "log"))
	require.NoError(b, err)
	defer file.Close() //nolint:errcheck // nobody reads it
	ratio, reports := pairs(b,
		func() float64 { return rate(b, durable, of) },
		func() float64 { return syncs(b, file, len(report(0))) })
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(1/ratio, "x_sync")
	b.ReportMetric(reports, "reports/s")
}

// syncs returns how often in a second size bytes can be appended to a file and synced.
func syncs(b *testing.B, file *os.File, size int) float64 {
	n, start, data := 0, time.Now(), make([]byte, size)
	for ; time.Since(start) < 1500*time.Millisecond; n++ {
		_, err := file.Write(data)
		require.NoError(b, err)
		require.NoError(b, syscall.Fdatasync(int(file.Fd())))
	}
	return float64(n) / time.Since(start).Seconds()
}
