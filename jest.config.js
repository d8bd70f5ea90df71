// The compiled tests. What needs more than the repository (test/shared, test/package, test/guide) has commands of its own.
module.exports = {
  roots: ['<rootDir>/out/test'],
  testPathIgnorePatterns: ['/node_modules/', '/out/test/shared/', '/out/test/package/', '/out/test/guide/'],
  // Tests lie one folder deeper once compiled; they all mean the same dist.
  moduleNameMapper: { '^(?:\\.\\./)+dist/(.*)$': '<rootDir>/dist/$1' },
  testEnvironment: 'node',
  testTimeout: 60000,
};
