module.exports = {
  ...require('./jest.config.js'),
  roots: ['<rootDir>/out/test/shared'],
  testPathIgnorePatterns: ['/node_modules/'],
  testTimeout: 300000,
};
