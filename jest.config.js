// The compiled tests. What needs more than the repository (test/shared, test/package) has commands of its own.
module.exports = {
  roots: ['<rootDir>/out/test'],
  testPathIgnorePatterns: ['/node_modules/', '/out/test/shared/', '/out/test/package/'],
  testEnvironment: 'node',
  testTimeout: 60000,
};
