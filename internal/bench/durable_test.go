package bench

import (
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/stretchr/testify/require"
)

// BenchmarkDurable measures the server with a data directory against the same server without one: one report a request at
// 1, 64 and 256 connections, and 100 reports a request. Because what a disk makes of it differs much from machine to machine, it
// measures three yardsticks as well: the bare handler, the same where it appends what it reads to a file and answers once that is
// synced, in groups, and the engine alone, with as many writers that each wait for their own synced write of as many bytes. What
// the second reaches of the first is what this machine leaves of any such server that syncs before it answers.
func BenchmarkDurable(b *testing.B) {
	for _, load := range []struct{ connections, size int }{{1, 1}, {64, 1}, {256, 1}, {64, 100}} {
		b.Run(fmt.Sprintf("%d-a-request-at-%d-connections", load.size, load.connections), func(b *testing.B) {
			sessions := load.connections * load.size
			memory, durable := startServer(b), startServer(b, "DATA_DIR="+filepath.Join(b.TempDir(), "data"))
			bare, bareSynced := startBare(b), startBare(b, bareLogVariable+"="+filepath.Join(b.TempDir(), "log"))
			of := requests(load.connections, sessions, load.size)
			const historyLimit = 100 // unless HISTORY_LIMIT says another
			fill(b, memory, sessions, historyLimit)
			fill(b, durable, sessions, historyLimit)
			db := openEngine(b)
			measures := []func() float64{
				func() float64 { return rate(b, durable, of) },
				func() float64 { return rate(b, memory, of) },
				func() float64 { return rate(b, bare, of) },
				func() float64 { return rate(b, bareSynced, of) },
				func() float64 { return commits(b, db, load.connections, load.size*len(report(0))) },
			}
			for _, measure := range measures {
				measure()
			}
			var ofMemory, ofBare, bareOfBare, ofEngine, rates []float64
			for n := 0; b.Loop(); n++ {
				r := make([]float64, len(measures))
				for i := range measures {
					i = (i + n) % len(measures) // another one first each time
					r[i] = measures[i]()
				}
				ofMemory, ofBare, bareOfBare = append(ofMemory, r[0]/r[1]), append(ofBare, r[0]/r[3]), append(bareOfBare, r[3]/r[2])
				ofEngine, rates = append(ofEngine, r[0]/r[4]), append(rates, r[0]*float64(load.size))
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(ofMemory), "x_memory")
			b.ReportMetric(median(bareOfBare), "bare_synced_x_bare")
			b.ReportMetric(median(ofBare), "x_bare_synced")
			b.ReportMetric(median(ofEngine), "x_engine")
			b.ReportMetric(median(rates), "reports/s")
		})
	}
}

func openEngine(b *testing.B) *pebble.DB {
	db, err := pebble.Open(filepath.Join(b.TempDir(), "engine"), &pebble.Options{Logger: quiet{}, MemTableSize: 32 << 20, FormatMajorVersion: pebble.FormatTableFormatV6})
	require.NoError(b, err)
	b.Cleanup(func() { require.NoError(b, db.Close()) })
	return db
}

// quiet logs nothing.
type quiet struct{}

func (quiet) Infof(string, ...any)         {}
func (quiet) Errorf(string, ...any)        {}
func (quiet) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }

// commits returns how many synced writes of size bytes the engine takes in a second from as many writers.
func commits(b *testing.B, db *pebble.DB, writers, size int) float64 {
	var (
		wg   sync.WaitGroup
		next atomic.Uint64
	)
	start := time.Now()
	value := make([]byte, size)
	done := 0
	var mu sync.Mutex
	for range writers {
		wg.Go(func() {
			n := 0
			for ; time.Since(start) < span(); n++ {
				if err := db.Set(fmt.Appendf(nil, "%020d", next.Add(1)), value, pebble.Sync); err != nil {
					b.Error(err)
					return
				}
			}
			mu.Lock()
			defer mu.Unlock()
			done += n
		})
	}
	wg.Wait()
	return float64(done) / time.Since(start).Seconds()
}
