import { storeConformance } from '../conformance.ts';
import { open } from './engine-under-test.ts';

storeConformance('SQLite', { open, openModule: new URL('./engine-under-test.ts', import.meta.url) });
