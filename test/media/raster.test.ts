/** Pixels in native memory: the room of a large picture is kept for the next, and is no one else's meanwhile. */
import { loadNative } from '../../dist/native';

const native = loadNative();
const large = 9 << 20;

function filled(value: number, bytes = large) {
  const raster = native.newRaster();
  native.fillRaster(raster.id, new Uint8Array(bytes).fill(value));
  return raster;
}

function valuesOf(raster: ReturnType<typeof filled>): number[] {
  return [...new Set(native.rasterBytes(raster))];
}

test('rasters that come and go keep their own pixels', () => {
  const held = filled(1);
  for (let value = 2; value < 8; value++) {
    const raster = filled(value, value % 2 === 0 ? large : 2 * large);
    expect(valuesOf(raster)).toEqual([value]);
    native.releaseRaster(raster);
    expect(native.rasterBytes(raster)).toBeUndefined();
  }
  expect(valuesOf(held)).toEqual([1]);
  native.releaseRaster(held);
  native.freeSpareRaster();
});

test('pixels are stored once, and not behind a release', () => {
  const raster = filled(1);
  native.fillRaster(raster.id, new Uint8Array(large).fill(2));
  expect(valuesOf(raster)).toEqual([1]);
  native.releaseRaster(raster);
  native.fillRaster(raster.id, new Uint8Array(large).fill(3));
  expect(native.rasterBytes(raster)).toBeUndefined();
});
